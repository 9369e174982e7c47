//go:build !race

package tokenstore_test

const raceEnabled = false
