def page(f): return ""
