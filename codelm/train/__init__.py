"""How a model is trained: the only room that imports Composer."""
