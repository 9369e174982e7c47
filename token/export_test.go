package token

// What the second parser of an allow-list's entries makes of a text by itself.
var CanonicalRange = canonicalRange
