package tokenstore

// What the tests of this package look at from outside.
var (
	FoldName  = foldName
	PrefixEnd = prefixEnd
)
