"""What a GPU still has to prove, part by part: correctness first, then speed and memory. Never run on a GPU so far."""
