"""Sample data: a month in the life of three teams, told through the rules of the product."""
