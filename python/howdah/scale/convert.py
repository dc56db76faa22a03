"""(skeleton; see the owner's table)"""
