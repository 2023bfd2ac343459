"""Settlement: what the stock engine decided becomes rows; Redis is rebuilt from rows."""
