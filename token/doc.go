// Package token holds the rules of Sallyport: what a secret looks like, what a
// token may do, and how one request is decided. Everything in it is a pure
// function of values and a time. It reads no clock, no store and no network, so
// that each rule can be read, tested and fuzzed by itself.
//
// An error from this package means "could not decide"; a refusal is a value.
package token
