"""Walk-forward: forecasts by models that were fitted before, stitched together and scored."""
