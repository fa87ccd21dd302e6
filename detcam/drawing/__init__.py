"""How explanations become pictures: heat, shapes, labels and words, and what is put together from them."""
