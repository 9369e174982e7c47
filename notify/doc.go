// Package notify tells people what happens to their tokens, by mail and by
// webhook. It has three parts that know nothing of each other but the outbox:
//
//   - Notifier writes messages to the outbox, in the transaction of the change that
//     they tell of. A change that is not committed is told to nobody, and one that
//     is can not be forgotten.
//   - Sender takes them out and hands them to a Carrier, outside of any transaction:
//     a slow relay must never hold a lock. What it claims is committed before it
//     sends, and what became of it after, so that a crash in between sends a
//     message again, under the same ID, and never loses one.
//   - Judge says when a notice counts as given (L4).
//
// Promise: never zero times, normally once, at most one time more per crash. No
// message ever holds a secret, or anything that a secret is looked up by.
package notify
