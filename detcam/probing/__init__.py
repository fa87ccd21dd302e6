"""One image, changed: a detection's score in a part of the image, or in the whole."""
