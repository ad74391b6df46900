"""What an attacker would try, against the running product, with the number that must come out.

SECURITY.md has the table of what is required, which module proves it, and with which figure. What
is required follows the OWASP Application Security Verification Standard 5.0, whose sections the
modules name. `make faults` runs the long forms.
"""
