// Package tokenstore says where tokens live. It holds the Store contract, the
// transaction that all adapters share, the ring of master keys under which
// secrets are looked up, and the audit log's chain.
//
// The contract is prose on the methods of Store; storetest proves each sentence
// of it on every adapter. Reading a store yields no working secret: it holds
// HMACs of digests, under a key that is kept elsewhere.
package tokenstore
