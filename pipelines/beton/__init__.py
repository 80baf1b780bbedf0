"""One .beton file: written from a folder of images, checked, and read back as finished views."""
