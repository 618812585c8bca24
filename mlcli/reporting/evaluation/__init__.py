"""The results of evaluations, of classifiers and of pairs of images, as tables and charts."""
