"""What differs between two reports, judged on processes, not on rounds within one."""
