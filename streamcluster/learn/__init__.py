"""From thumbnails to labels: features, principal components, k-means. The only room that imports scikit-learn."""
