// Package lifecycle does what follows from use: it gives notice, narrows what is
// too broad, deletes what nobody uses, ends what has expired, and takes an action
// back when it turns out to have been wrong.
//
// What follows is decided by token.Plan, which is pure; this package reads what
// that needs, and carries out what it says through authority, in transactions that
// plan again from what is stored at that moment. So a pass may be run by several
// nodes at once, be killed anywhere and be run again: it does nothing twice, and
// nothing that is not due.
package lifecycle
