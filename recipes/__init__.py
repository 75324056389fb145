"""Recipes: files to copy. Nothing of this project is needed to use one; ``python -m recipes`` lists them."""
