"""Parts of forecast.py and forecast_table.py: series, simple and classical methods, networks, measures."""
