package tokenstore

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/token"
)

// Limits of a ring.
const (
	MaxRingKeys = 64
	maxRingFile = 64 << 10 // bytes, comments included
	maxKeyID    = 64
	keySize     = 32
)

// The labels keep the uses of one master key apart: what is learned about one
// derived key says nothing about another. They are part of the stored format; a
// new way to derive takes a new version.
const (
	lookupLabel = "sallyport/v1/lookup"
	auditLabel  = "sallyport/v1/audit"
	checkLabel  = "sallyport/v1/check"
)

// checkValueSize is enough bytes of the HMAC that no two keys share them by chance.
const checkValueSize = 16

// Lookup is HMAC-SHA256 of a secret's digest under a key derived from a master
// key: what the store and the caches are keyed by.
type Lookup [32]byte

// Ring is the named master keys that a node holds. It prints as redacted. It is
// immutable and safe for concurrent use.
type Ring struct{ keys []*ringKey }

// ringKey is one master key with what is derived from it.
type ringKey struct {
	id    string
	check string
	// Key bytes are behind two pointers: fmt calls no methods on what stands in an
	// unexported field, and for a verb that does not fit it follows one pointer.
	master *[keySize]byte
	audit  *[sha256.Size]byte
	// lookups holds *lookupState: an HMAC whose key schedule is done takes a
	// quarter of the time of a new one, and no allocation.
	lookups sync.Pool
}

// lookupState carries its own buffer, because what is handed to a hash.Hash
// escapes to the heap.
type lookupState struct {
	mac hash.Hash
	buf [sha256.Size]byte
}

func newRingKey(id string, master [keySize]byte) (*ringKey, error) {
	k := &ringKey{id: id, master: &master}
	derived := make(map[string][]byte, 3)
	for _, label := range []string{lookupLabel, auditLabel, checkLabel} {
		sub, err := hkdf.Key(sha256.New, master[:], nil, label, sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive from a master key: %w", err)
		}
		derived[label] = sub
	}
	k.audit = (*[sha256.Size]byte)(derived[auditLabel])

	mac := hmac.New(sha256.New, derived[checkLabel])
	mac.Write([]byte("sallyport master key"))
	k.check = hex.EncodeToString(mac.Sum(nil)[:checkValueSize])

	k.lookups.New = func() any {
		return &lookupState{mac: hmac.New(sha256.New, derived[lookupLabel])}
	}
	return k, nil
}

// ParseRing reads lines "ID:base64 of 32 bytes". The first is the primary for a
// new store. Errors name the line and never its content.
func ParseRing(r io.Reader) (*Ring, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxRingFile+1))
	if err != nil {
		return nil, fmt.Errorf("read master keys: %w", err)
	}
	if len(text) > maxRingFile {
		return nil, fmt.Errorf("master keys: more than %d bytes: this is no file of lines ID:base64 of 32 bytes", maxRingFile)
	}
	ring := &Ring{}
	lineOf := map[string]int{} // by ID and by key bytes; a key is no valid ID
	for i, line := range strings.Split(string(text), "\n") {
		number := i + 1
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		id, master, err := parseRingLine(line)
		if err != nil {
			return nil, fmt.Errorf("master keys, line %d: %w", number, err)
		}
		if first, ok := lineOf["id "+id]; ok {
			return nil, fmt.Errorf("master keys, line %d: its ID stands on line %d already: give every key an ID of its own", number, first)
		}
		if first, ok := lineOf["key "+string(master[:])]; ok {
			return nil, fmt.Errorf("master keys, line %d: its key stands on line %d already under another ID: remove the line that the store does not know", number, first)
		}
		lineOf["id "+id], lineOf["key "+string(master[:])] = number, number
		if len(ring.keys) == MaxRingKeys {
			return nil, fmt.Errorf("master keys, line %d: more than %d keys: remove lines of keys that `master-key status` counts nothing under", number, MaxRingKeys)
		}
		k, err := newRingKey(id, master)
		if err != nil {
			return nil, err
		}
		ring.keys = append(ring.keys, k)
	}
	if len(ring.keys) == 0 {
		return nil, errors.New("master keys: no key: write a line ID:KEY, where `openssl rand -base64 32` makes KEY")
	}
	return ring, nil
}

var (
	errRingShape = errors.New("a line is ID:KEY, where `openssl rand -base64 32` makes KEY")
	errRingID    = errors.New("the ID before ':' is made of 1 to 64 of a-z, 0-9, '.', '_' and '-', and starts with a letter or digit")
	errRingKey   = errors.New("the key after ':' is 32 bytes in standard base64, 44 characters with the padding, as `openssl rand -base64 32` makes it")
	errRingWeak  = errors.New("the key repeats one byte, so it was made up and not drawn: `openssl rand -base64 32` makes one")
)

func parseRingLine(line string) (id string, master [keySize]byte, err error) {
	id, encoded, ok := strings.Cut(line, ":")
	if !ok {
		return "", master, errRingShape
	}
	if !validKeyID(id) {
		return "", master, errRingID
	}
	// The length is compared first, because decoding passes over line ends: one
	// key has one spelling.
	if len(encoded) != base64.StdEncoding.EncodedLen(keySize) {
		return "", master, errRingKey
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil || len(raw) != keySize {
		return "", master, errRingKey
	}
	if bytes.Count(raw, raw[:1]) == keySize {
		return "", master, errRingWeak
	}
	return id, [keySize]byte(raw), nil
}

// validKeyID is [a-z0-9][a-z0-9._-]{0,63}.
func validKeyID(id string) bool {
	if id == "" || len(id) > maxKeyID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}

// NewRing makes a ring of one fresh key, named after its check value.
func NewRing(random io.Reader) (*Ring, error) {
	var master [keySize]byte
	if _, err := io.ReadFull(random, master[:]); err != nil {
		return nil, fmt.Errorf("draw a master key: %w", err)
	}
	k, err := newRingKey("", master)
	if err != nil {
		return nil, err
	}
	k.id = "k-" + k.check[:8]
	return &Ring{keys: []*ringKey{k}}, nil
}

// WriteTo writes the ring as ParseRing reads it: key material, for a 0600 file.
func (r *Ring) WriteTo(w io.Writer) (int64, error) {
	var text bytes.Buffer
	text.WriteString("# Sallyport's master keys, ID:base64 of 32 bytes. Without them no token works.\n" +
		"# Keep a copy, and keep it away from copies of the database.\n")
	for _, k := range r.keys {
		fmt.Fprintf(&text, "%s:%s\n", k.id, base64.StdEncoding.EncodeToString(k.master[:]))
	}
	return text.WriteTo(w)
}

// IDs names the keys, the file's first key first.
func (r *Ring) IDs() []string {
	ids := make([]string, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.id
	}
	return ids
}

// Has says whether the ring holds the key.
func (r *Ring) Has(id string) bool { return r.key(id) != nil }

// key walks the list: a ring has one or two keys, but for the hours of a rotation.
func (r *Ring) key(id string) *ringKey {
	for _, k := range r.keys {
		if k.id == id {
			return k
		}
	}
	return nil
}

// CheckValue identifies a key's bytes without revealing them: an HMAC of a fixed text.
func (r *Ring) CheckValue(id string) (string, bool) {
	if k := r.key(id); k != nil {
		return k.check, true
	}
	return "", false
}

// Lookup derives the lookup value of a digest under the named key. It does not
// allocate. ok is false when the ring lacks the key.
func (r *Ring) Lookup(id string, d token.Digest) (l Lookup, ok bool) {
	k := r.key(id)
	if k == nil {
		return Lookup{}, false
	}
	s := k.lookups.Get().(*lookupState)
	s.buf = d
	s.mac.Reset()
	s.mac.Write(s.buf[:])
	s.mac.Sum(s.buf[:0])
	l = s.buf
	k.lookups.Put(s)
	return l, true
}

// auditMAC is the MAC of audit material under the named key.
func (r *Ring) auditMAC(id string, material []byte) (sum [32]byte, ok bool) {
	k := r.key(id)
	if k == nil {
		return sum, false
	}
	mac := hmac.New(sha256.New, k.audit[:])
	mac.Write(material)
	mac.Sum(sum[:0])
	return sum, true
}

// CheckAgainst says what keeps the ring from serving a store that knows these
// keys, if anything does. The ring must hold the primary and every key with
// live secrets, and the bytes under an ID must be those that the store was used
// with. Other keys may be missing, and more may be there.
func (r *Ring) CheckAgainst(known []MasterKey) error {
	var problems []error
	for _, m := range known {
		check, held := r.CheckValue(m.ID)
		switch {
		case held && check != m.CheckValue:
			problems = append(problems, fmt.Errorf("master key %q: the bytes under this ID differ from those that the store was used with: put the right line for %q back; a new key takes a new ID", m.ID, m.ID))
		case !held && m.Primary:
			problems = append(problems, fmt.Errorf("master key %q is the store's primary and is missing: add its line back to the master key file", m.ID))
		case !held && m.Live > 0:
			problems = append(problems, fmt.Errorf("master key %q is missing, and %d secrets in use are under it: add its line back to the master key file", m.ID, m.Live))
		}
	}
	return errors.Join(problems...)
}

const redactedRing = "[redacted master keys]"

func (Ring) String() string { return redactedRing }

// Format redacts every verb, %x and %#v included.
func (Ring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redactedRing) }

// LogValue redacts the ring in structured logs.
func (Ring) LogValue() slog.Value { return slog.StringValue(redactedRing) }

// MarshalText redacts the ring in JSON and every other encoding of texts.
func (Ring) MarshalText() ([]byte, error) { return []byte(redactedRing), nil }
