package tokenstore

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"time"

	"github.com/sallyport/sallyport/token"
)

// AuditEntry says who did what to which record, and when. Entries form a chain:
// each hash covers the hash before it, and each MAC covers the entry's hash
// under a key derived from the primary master key, so that one entry made
// with a key that is held vouches for all before it.
type AuditEntry struct {
	Seq       int64 // from 1, without gaps
	At        time.Time
	Actor     Actor
	Verb      string // "token.rotate"
	Target    string // ID or name of the record
	AccountID token.ID
	// Before and After hold the fields that the change touched, as JSON. Never a secret.
	Before, After []byte
	RequestID     string
	KeyID         string
	Hash, MAC     [32]byte
}

// Actor is who asked for a change.
type Actor struct {
	Kind     ActorKind
	Name     string // an ID for users and tokens; what an operator calls themselves
	Verified bool   // false: the name is the actor's own claim
	Address  string // where the request came from, as far as it is known
}

// ActorKind says what an actor is.
type ActorKind string

// The kinds of actors.
const (
	OperatorActor ActorKind = "operator" // whoever reaches the admin endpoint or the store
	SystemActor   ActorKind = "system"   // Sallyport itself, from its configuration
	UserActor     ActorKind = "user"     // a user of an account; the name is the user's ID
	TokenActor    ActorKind = "token"    // a token, for itself or with management scopes; the name is its ID
)

// AuditQuery selects audit entries. Zero fields select everything.
type AuditQuery struct {
	AccountID     token.ID
	Target        string
	Verb          string
	After, Before time.Time
	Page
}

// AuditHead is the end of the chain. Written out and kept elsewhere, it lets
// VerifyAudit notice a log that was cut off. The MAC covers its other fields.
type AuditHead struct {
	Seq       int64
	At        time.Time
	KeyID     string
	Hash, MAC [32]byte
}

// Head is the head of a log that ends with the entry.
func Head(e *AuditEntry) AuditHead {
	return AuditHead{Seq: e.Seq, At: e.At, KeyID: e.KeyID, Hash: e.Hash, MAC: e.MAC}
}

// Seal makes the entry the next after a head, which is zero for the first: it
// sets Seq, KeyID, Hash and MAC. All other fields must have their final values.
func (r *Ring) Seal(keyID string, after AuditHead, e *AuditEntry) error {
	sealed := *e
	sealed.Seq = after.Seq + 1
	sealed.KeyID = keyID
	sealed.Hash = sealed.chainHash(&after)
	head := Head(&sealed)
	mac, ok := r.auditMAC(keyID, head.material())
	if !ok {
		return fmt.Errorf("seal audit entry: the ring lacks master key %q", keyID)
	}
	sealed.MAC = mac
	*e = sealed
	return nil
}

// The labels of what is hashed and MACed. Entries outlive releases, so another
// encoding takes another label, and old entries keep theirs.
const (
	entryLabel = "sallyport audit entry v1"
	headLabel  = "sallyport audit head v1"
)

// chainHash covers the hash and the MAC before the entry, and every field but
// Hash and MAC. Texts carry their length, so that moving a byte from one field
// to the next makes another hash. Times count in microseconds, which every
// store keeps.
func (e *AuditEntry) chainHash(before *AuditHead) (sum [32]byte) {
	w := canonical{sha256.New()}
	w.text(entryLabel)
	w.Write(before.Hash[:])
	w.Write(before.MAC[:])
	w.number(e.Seq)
	w.number(e.At.UnixMicro())
	w.text(string(e.Actor.Kind))
	w.text(e.Actor.Name)
	w.flag(e.Actor.Verified)
	w.text(e.Actor.Address)
	w.text(e.Verb)
	w.text(e.Target)
	w.text(string(e.AccountID))
	w.text(string(e.Before))
	w.text(string(e.After))
	w.text(e.RequestID)
	w.text(e.KeyID)
	w.Sum(sum[:0])
	return sum
}

// material is what the MAC covers: enough to judge a head without its entry.
func (h *AuditHead) material() []byte {
	w := canonical{sha256.New()}
	w.text(headLabel)
	w.number(h.Seq)
	w.number(h.At.UnixMicro())
	w.text(h.KeyID)
	w.Write(h.Hash[:])
	return w.Sum(nil)
}

// canonical writes fields so that different fields never give the same bytes.
type canonical struct{ hash.Hash }

func (w canonical) number(n int64) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	w.Write(b[:])
}

func (w canonical) text(s string) {
	w.number(int64(len(s)))
	w.Write([]byte(s))
}

func (w canonical) flag(set bool) {
	b := byte(0)
	if set {
		b = 1
	}
	w.Write([]byte{b})
}
