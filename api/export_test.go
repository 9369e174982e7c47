package api

// Examples gives the shell lines of docs/api.md to the tests that run them.
var Examples = examples
