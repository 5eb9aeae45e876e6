"""Pictures of a comparison: specifications of Vega-Lite, and files made of them."""
