"""Files, images, videos, and the sources that name them."""
