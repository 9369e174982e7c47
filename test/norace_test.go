//go:build !race

package test

// raceEnabled: the program is built with the race detector exactly when the tests are.
const raceEnabled = false
