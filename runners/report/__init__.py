"""A page for looking at what the models said: run folders in, one self-contained HTML file out."""
