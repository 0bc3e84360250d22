"""Site files, which say what users see and may do, and the layers that implement them."""
