"""After the cut: the layers that stay learn the full model's predictions again."""
