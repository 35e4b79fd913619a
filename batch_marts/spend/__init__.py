"""What marketing costs: the exports of eight advertising platforms, and the rates of currencies, into the warehouse."""
