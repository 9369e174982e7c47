// Package storecopy moves a whole store into another, empty one, from any kind
// of database to any other, and proves that both hold the same.
//
// A copy is of one state: the source is read in one snapshot, and nothing may
// change it until the copy is finished, because a revocation that was made
// meanwhile would be lost. So a source that gateways use is refused, and one that
// was changed is found out at the end. What an interrupted copy has brought over
// stays, under a marker that keeps every gateway from serving it, and the next
// one goes on from there.
//
// Rows are moved as they are. Only the feed's epoch is a new one: a gateway that
// knew the source must not take the copy for the same history.
package storecopy
