"""From an ImageFolder to a .beton file; the command is tools/convert_imagenet_to_ffcv.py."""
