package tokenstore_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

var auditTime = time.UnixMicro(1_790_000_000_123_456).UTC()

// Logs outlive releases: another program computed these values from the layout
// that chainHash and material describe, and they must never change.
func TestSealedEntriesStayVerifiableAcrossReleases(t *testing.T) {
	ring := parseRing(t, "k-1:"+vectorKey)
	before := tokenstore.AuditHead{Seq: 41, Hash: filled(7), MAC: filled(8)}
	e := tokenstore.AuditEntry{
		At:     auditTime,
		Actor:  tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: "ops@example.com", Verified: true, Address: "192.0.2.1"},
		Verb:   "token.rotate",
		Target: "tok_1", AccountID: "acc_1",
		Before: []byte(`{"a":1}`), After: []byte(`{"a":2}`),
		RequestID: "req-1",
	}
	require.NoError(t, ring.Seal("k-1", before, &e))
	require.EqualValues(t, 42, e.Seq)
	require.Equal(t, "k-1", e.KeyID)
	require.Equal(t, "5d8a0515cd70d8f48852fa02629126c6e8d954ad630d548261d9af3e7a01e4bc", hex.EncodeToString(e.Hash[:]))
	require.Equal(t, "8a0650262b6b0d08bd6b03596b2046e5c3731830248b0f6f40f9f24f6b1edca7", hex.EncodeToString(e.MAC[:]))
}

func TestAnEntryIsNotSealedUnderAKeyThatTheRingLacks(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1))
	e := tokenstore.AuditEntry{Verb: "token.create"}
	require.ErrorContains(t, ring.Seal("k2", tokenstore.AuditHead{}, &e), `"k2"`)
	require.Empty(t, cmp.Diff(tokenstore.AuditEntry{Verb: "token.create"}, e), "nothing is half sealed")
}

// Two entries that differ in any way have different hashes, also when a byte
// moves from the end of one field to the start of the next.
func TestEveryFieldOfAnEntryIsInItsHash(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1), keyLine("k2", 2))
	seen := map[[32]byte]string{}
	add := func(name, key string, after tokenstore.AuditHead, e tokenstore.AuditEntry) {
		t.Helper()
		require.NoError(t, ring.Seal(key, after, &e))
		require.Empty(t, seen[e.Hash], "%s has the hash of another", name)
		seen[e.Hash] = name
	}
	add("an empty entry", "k1", tokenstore.AuditHead{}, tokenstore.AuditEntry{})
	add("another key", "k2", tokenstore.AuditHead{}, tokenstore.AuditEntry{})
	add("another number", "k1", tokenstore.AuditHead{Seq: 1}, tokenstore.AuditEntry{})
	add("another hash before", "k1", tokenstore.AuditHead{Hash: filled(1)}, tokenstore.AuditEntry{})
	add("another MAC before", "k1", tokenstore.AuditHead{MAC: filled(1)}, tokenstore.AuditEntry{})

	var walk func(path string, v reflect.Value, e *tokenstore.AuditEntry)
	walk = func(path string, v reflect.Value, e *tokenstore.AuditEntry) {
		for i := range v.NumField() {
			name, f := path+v.Type().Field(i).Name, v.Field(i)
			switch {
			case slices.Contains([]string{"Seq", "KeyID", "Hash", "MAC"}, name):
				continue // set by Seal, covered above
			case f.Type() == reflect.TypeFor[time.Time]():
				f.Set(reflect.ValueOf(time.UnixMicro(1)))
			case f.Kind() == reflect.Struct:
				walk(name+".", f, e)
				continue
			case f.Kind() == reflect.String:
				f.SetString("x")
			case f.Kind() == reflect.Bool:
				f.SetBool(true)
			case f.Type() == reflect.TypeFor[[]byte]():
				f.SetBytes([]byte("x"))
			default:
				t.Fatalf("field %s is of a kind that this test does not know: see that chainHash covers it", name)
			}
			add(name, "k1", tokenstore.AuditHead{}, *e)
			f.SetZero()
		}
	}
	var e tokenstore.AuditEntry
	walk("", reflect.ValueOf(&e).Elem(), &e)
}

func filled(b byte) (h [32]byte) {
	for i := range h {
		h[i] = b
	}
	return h
}

// auditLog makes a genuine log of n entries. Keys are taken in turn; ring must hold them.
func auditLog(t testing.TB, ring *tokenstore.Ring, keys ...string) []tokenstore.AuditEntry {
	t.Helper()
	var (
		head tokenstore.AuditHead
		log  []tokenstore.AuditEntry
	)
	for i, key := range keys {
		e := tokenstore.AuditEntry{
			At:        auditTime.Add(time.Duration(i) * time.Second),
			Actor:     tokenstore.Actor{Kind: tokenstore.OperatorActor, Name: "ops", Address: "192.0.2.1"},
			Verb:      []string{"token.create", "token.edit", "token.revoke"}[i%3],
			Target:    fmt.Sprintf("tok_%d", i/2),
			AccountID: token.ID(fmt.Sprintf("acc_%d", i/3)),
			Before:    []byte(`{"name":"a"}`),
			After:     []byte(`{"name":"b"}`),
			RequestID: fmt.Sprintf("req-%d", i),
		}
		if err := ring.Seal(key, head, &e); err != nil {
			t.Fatal(err)
		}
		log, head = append(log, e), tokenstore.Head(&e)
	}
	return log
}

func headOf(log []tokenstore.AuditEntry) tokenstore.AuditHead {
	if len(log) == 0 {
		return tokenstore.AuditHead{}
	}
	return tokenstore.Head(&log[len(log)-1])
}

func stored(log []tokenstore.AuditEntry) iter.Seq2[tokenstore.AuditEntry, error] {
	return func(yield func(tokenstore.AuditEntry, error) bool) {
		for _, e := range log {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func problems(t testing.TB, ring *tokenstore.Ring, log []tokenstore.AuditEntry, head tokenstore.AuditHead, earlier *tokenstore.AuditHead) []string {
	t.Helper()
	report, err := tokenstore.VerifyChain(ring, stored(log), head, earlier)
	if err != nil {
		t.Fatal(err)
	}
	return report.Problems
}

func TestAGenuineLogHasNoProblems(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1), keyLine("k2", 2))
	for n := range 5 {
		log := auditLog(t, ring, []string{"k1", "k1", "k2", "k2", "k1"}[:n]...)
		report, err := tokenstore.VerifyChain(ring, stored(log), headOf(log), nil)
		require.NoError(t, err)
		require.Empty(t, cmp.Diff(tokenstore.AuditReport{Entries: int64(n), Head: headOf(log)}, report))
		for i := range log {
			earlier := headOf(log[:i+1])
			require.Empty(t, problems(t, ring, log, headOf(log), &earlier))
		}
	}
}

func TestAnEntryUnderAHeldKeyVouchesForEntriesUnderDroppedKeys(t *testing.T) {
	all := parseRing(t, keyLine("k1", 1), keyLine("k2", 2))
	held := parseRing(t, keyLine("k2", 2))

	log := auditLog(t, all, "k1", "k1", "k2")
	require.Empty(t, problems(t, held, log, headOf(log), nil))
	earlier := headOf(log[:2]) // under the dropped key; the chain still contains it
	require.Empty(t, problems(t, held, log, headOf(log), &earlier))
	earlier.MAC[0] ^= 1
	require.Len(t, problems(t, held, log, headOf(log), &earlier), 1)

	log = auditLog(t, all, "k1", "k2", "k1", "k1")
	found := problems(t, held, log, headOf(log), nil)
	require.Len(t, found, 1)
	require.Contains(t, found[0], "entries from 3 on")
	require.Contains(t, found[0], `"k1"`)
	require.Contains(t, found[0], "add that key's line back")
}

func TestEachProblemSaysWhatWasDoneToWhichEntry(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1))
	forger := parseRing(t, keyLine("k1", 66), keyLine("k9", 67))
	genuine := auditLog(t, ring, "k1", "k1", "k1", "k1", "k1", "k1")
	longer := auditLog(t, ring, "k1", "k1", "k1", "k1", "k1", "k1", "k1")

	for name, c := range map[string]struct {
		tamper  func(log []tokenstore.AuditEntry, head *tokenstore.AuditHead) []tokenstore.AuditEntry
		earlier *tokenstore.AuditHead
		want    []string
	}{
		"an edited entry": {
			tamper: func(log []tokenstore.AuditEntry, _ *tokenstore.AuditHead) []tokenstore.AuditEntry {
				log[2].Actor.Name = "someone else"
				return log
			},
			want: []string{"entry 3 does not fit its hash"},
		},
		"an entry edited by one who can compute hashes": {
			tamper: func(log []tokenstore.AuditEntry, _ *tokenstore.AuditHead) []tokenstore.AuditEntry {
				log[2].Verb = "token.edit"
				_ = forger.Seal("k1", headOf(log[:2]), &log[2])
				return log
			},
			want: []string{"entry 3 was not made with master key \"k1\"", "entry 4 does not fit its hash"},
		},
		"a removed entry": {
			tamper: func(log []tokenstore.AuditEntry, _ *tokenstore.AuditHead) []tokenstore.AuditEntry {
				return slices.Delete(log, 2, 3)
			},
			want: []string{"entry 3 is missing"},
		},
		"removed entries": {
			tamper: func(log []tokenstore.AuditEntry, _ *tokenstore.AuditHead) []tokenstore.AuditEntry {
				return slices.Delete(log, 0, 3)
			},
			want: []string{"entries 1 to 3 are missing"},
		},
		"an entry moved": {
			tamper: func(log []tokenstore.AuditEntry, _ *tokenstore.AuditHead) []tokenstore.AuditEntry {
				log[1], log[2] = log[2], log[1]
				return log
			},
			want: []string{"entry 2 is missing", "entry 2 is not where it belongs: an entry 4 was expected", "entry 3 is missing"},
		},
		"an entry before the first": {
			tamper: func(log []tokenstore.AuditEntry, _ *tokenstore.AuditHead) []tokenstore.AuditEntry {
				return slices.Insert(log, 0, tokenstore.AuditEntry{Seq: -3, KeyID: "k1"})
			},
			want: []string{
				"entry -3 is not where it belongs: an entry 1 was expected", "entry -3 was not made", "entries -2 to 0 are missing",
			},
		},
		"a log cut off under its head": {
			tamper: func(log []tokenstore.AuditEntry, _ *tokenstore.AuditHead) []tokenstore.AuditEntry { return log[:4] },
			want:   []string{"ends with entry 4, and the store's head is entry 6: the end was cut off"},
		},
		"an empty log under its head": {
			tamper: func(log []tokenstore.AuditEntry, _ *tokenstore.AuditHead) []tokenstore.AuditEntry { return nil },
			want:   []string{"ends with entry 0, and the store's head is entry 6"},
		},
		"a log and its head cut off, against an earlier head": {
			tamper: func(log []tokenstore.AuditEntry, head *tokenstore.AuditHead) []tokenstore.AuditEntry {
				*head = headOf(log[:4])
				return log[:4]
			},
			earlier: ptr(headOf(genuine)),
			want:    []string{"ends with entry 4, and the earlier head is entry 6: the end was cut off"},
		},
		"a log started anew, against an earlier head": {
			tamper: func(_ []tokenstore.AuditEntry, head *tokenstore.AuditHead) []tokenstore.AuditEntry {
				*head = headOf(longer)
				return longer
			},
			earlier: func() *tokenstore.AuditHead {
				e := genuine[5]
				e.RequestID = "another history"
				_ = ring.Seal("k1", headOf(genuine[:5]), &e)
				return ptr(tokenstore.Head(&e))
			}(),
			want: []string{"entry 6 is not the one that the earlier head names"},
		},
		"an entry added without the keys": {
			tamper: func(log []tokenstore.AuditEntry, head *tokenstore.AuditHead) []tokenstore.AuditEntry {
				e := tokenstore.AuditEntry{Verb: "token.create"}
				_ = forger.Seal("k1", *head, &e)
				*head = tokenstore.Head(&e)
				return append(log, e)
			},
			want: []string{"entry 7 was not made with master key \"k1\""},
		},
		"an entry added under a key that nobody holds": {
			tamper: func(log []tokenstore.AuditEntry, head *tokenstore.AuditHead) []tokenstore.AuditEntry {
				e := tokenstore.AuditEntry{Verb: "token.create"}
				_ = forger.Seal("k9", *head, &e)
				*head = tokenstore.Head(&e)
				return append(log, e)
			},
			want: []string{"nothing vouches for the entries from 7 on"},
		},
		"an entry under what is no key's name": {
			tamper: func(log []tokenstore.AuditEntry, head *tokenstore.AuditHead) []tokenstore.AuditEntry {
				log[5].KeyID = "\x1b[2Jall is well"
				*head = headOf(log)
				return log
			},
			want: []string{"entry 6 does not fit its hash", "they name a key with no proper ID"},
		},
		"an entry after the head": {
			tamper: func(log []tokenstore.AuditEntry, _ *tokenstore.AuditHead) []tokenstore.AuditEntry {
				return append(log, longer[6])
			},
			want: []string{"entry 7 stands after the store's head, which is entry 6"},
		},
		"a forged head": {
			tamper: func(log []tokenstore.AuditEntry, head *tokenstore.AuditHead) []tokenstore.AuditEntry {
				head.Hash[31] ^= 1
				return log
			},
			want: []string{"the store's head is not that of entry 6"},
		},
		"a head without a log": {
			tamper: func(_ []tokenstore.AuditEntry, head *tokenstore.AuditHead) []tokenstore.AuditEntry {
				*head = tokenstore.AuditHead{Hash: filled(1)}
				return nil
			},
			want: []string{"the store's head is not that of entry 0"},
		},
		"a forged earlier head": {
			earlier: func() *tokenstore.AuditHead {
				h := headOf(genuine)
				h.Seq = 5
				return &h
			}(),
			want: []string{"entry 5 is not the one", "the earlier head was not made with master key \"k1\""},
		},
		"an earlier head that names no entry": {
			earlier: &tokenstore.AuditHead{},
			want:    []string{"entry 0, which the earlier head names, is missing"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			log, head := slices.Clone(genuine), headOf(genuine)
			if c.tamper != nil {
				log = c.tamper(log, &head)
			}
			found := problems(t, ring, log, head, c.earlier)
			require.Len(t, found, len(c.want), "%q", found)
			for i, want := range c.want {
				require.Contains(t, found[i], want)
				require.NotContains(t, found[i], "\x1b")
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestProblemsAreCounted(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1))
	log := auditLog(t, ring, slices.Repeat([]string{"k1"}, 150)...)
	for i := range log {
		log[i].Verb = "token.delete"
	}
	found := problems(t, ring, log, headOf(log), nil)
	require.Len(t, found, 101)
	require.Equal(t, "and 50 problems more", found[100])
}

func TestAnErrorOfTheStoreIsNoVerdict(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1))
	log := auditLog(t, ring, "k1", "k1")
	broken := errors.New("store went away")
	report, err := tokenstore.VerifyChain(ring, func(yield func(tokenstore.AuditEntry, error) bool) {
		if yield(log[0], nil) {
			yield(tokenstore.AuditEntry{}, broken)
		}
	}, headOf(log), nil)
	require.ErrorIs(t, err, broken)
	require.Zero(t, report)
}

// tamper changes a genuine log as one who can write the database, but has no
// key, could: raw edits, and whole new tails with hashes that fit.
func tamper(r *rand.Rand, forger *tokenstore.Ring, log []tokenstore.AuditEntry, head *tokenstore.AuditHead) []tokenstore.AuditEntry {
	at := r.IntN(len(log))
	other := r.IntN(len(log))
	switch r.IntN(9) {
	case 0:
		edit(r, &log[at])
	case 1:
		return slices.Delete(log, at, at+1+r.IntN(len(log)-at))
	case 2:
		log[at], log[other] = log[other], log[at]
	case 3: // moved in place of another, numbers adapted
		log[at], log[other] = log[other], log[at]
		log[at].Seq, log[other].Seq = log[other].Seq, log[at].Seq
	case 4: // a copy
		return slices.Insert(log, at, log[other])
	case 5: // a copy at the end, with the next number
		e := log[at]
		e.Seq = log[len(log)-1].Seq + 1
		log = append(log, e)
		*head = headOf(log)
	case 6: // cut off, and the head with it
		log = log[:at]
		*head = headOf(log)
	case 7: // edited or inserted, and all after it made to fit
		if r.IntN(2) == 0 {
			log = slices.Insert(log, at, tokenstore.AuditEntry{At: auditTime, Verb: "token.create"})
		}
		edit(r, &log[at])
		for i := at; i < len(log); i++ {
			mac, key := log[i].MAC, log[i].KeyID
			if !forger.Has(key) {
				key = "k1"
			}
			if err := forger.Seal(key, headOf(log[:i]), &log[i]); err != nil {
				panic(err)
			}
			if r.IntN(2) == 0 {
				log[i].MAC = mac
			}
		}
		*head = headOf(log)
	case 8: // the head alone
		e := tokenstore.AuditEntry{Seq: head.Seq, At: head.At, KeyID: head.KeyID, Hash: head.Hash, MAC: head.MAC}
		edit(r, &e)
		*head = tokenstore.Head(&e)
	}
	return log
}

func edit(r *rand.Rand, e *tokenstore.AuditEntry) {
	texts := []*string{(*string)(&e.Actor.Kind), &e.Actor.Name, &e.Actor.Address, &e.Verb, &e.Target, (*string)(&e.AccountID), &e.RequestID, &e.KeyID}
	switch n := r.IntN(len(texts) + 7); {
	case n < len(texts):
		change(r, texts[n])
	case n == len(texts):
		e.Seq += int64(r.IntN(5) - 2)
	case n == len(texts)+1:
		e.At = e.At.Add(time.Duration(r.IntN(5)-2) * time.Microsecond)
	case n == len(texts)+2:
		e.Actor.Verified = !e.Actor.Verified
	case n == len(texts)+3:
		s := string(e.Before)
		change(r, &s)
		e.Before = []byte(s)
	case n == len(texts)+4:
		s := string(e.After)
		change(r, &s)
		e.After = []byte(s)
	case n == len(texts)+5:
		e.Hash[r.IntN(32)] ^= 1 << r.IntN(8)
	default:
		e.MAC[r.IntN(32)] ^= 1 << r.IntN(8)
	}
}

func change(r *rand.Rand, s *string) {
	b := []byte(*s)
	switch {
	case len(b) == 0 || r.IntN(3) == 0:
		b = append(b, 'x')
	case r.IntN(2) == 0:
		b = b[:len(b)-1]
	default:
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	}
	*s = string(b)
}

// checkTampered makes a log, tampers with it and demands that it is noticed.
// The head that was written out before is at hand, as design 8 wants it to be.
func checkTampered(t testing.TB, r *rand.Rand, ring, forger, all *tokenstore.Ring) (changed bool) {
	keys := make([]string, 1+r.IntN(8))
	for i := range keys {
		keys[i] = []string{"k0", "k1", "k2"}[r.IntN(3)] // k0 was dropped since
	}
	keys[len(keys)-1] = "k1"
	genuine := auditLog(t, all, keys...)
	earlier := headOf(genuine)
	if found := problems(t, ring, genuine, earlier, &earlier); found != nil {
		t.Fatalf("a genuine log: %q", found)
	}

	head := earlier
	log := tamper(r, forger, slices.Clone(genuine), &head)
	if reflect.DeepEqual(log, genuine) && head == earlier {
		return false
	}
	if problems(t, ring, log, head, &earlier) == nil {
		t.Fatalf("tampering was not noticed:\n%s", cmp.Diff(genuine, log))
	}
	return true
}

func auditRings(t testing.TB) (ring, forger, all *tokenstore.Ring) {
	return parseRing(t, keyLine("k1", 1), keyLine("k2", 2)),
		parseRing(t, keyLine("k1", 101), keyLine("k2", 102), keyLine("k9", 109)),
		parseRing(t, keyLine("k0", 7), keyLine("k1", 1), keyLine("k2", 2))
}

// Audit tampering is never undetected (D20, S19: 0 in 10^5).
func TestNoTamperingGoesUnnoticed(t *testing.T) {
	rounds := 100_000
	if testing.Short() || raceEnabled {
		rounds = 5_000
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	ring, forger, all := auditRings(t)
	changed := 0
	for changed < rounds {
		if checkTampered(t, r, ring, forger, all) {
			changed++
		}
	}
}

func FuzzNoTamperingGoesUnnoticed(f *testing.F) {
	ring, forger, all := auditRings(f)
	for seed := range uint64(9) {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		checkTampered(t, rand.New(rand.NewPCG(a, b)), ring, forger, all)
	})
}

func TestAHeadSurvivesItsFile(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1))
	log := auditLog(t, ring, "k1", "k1")
	text, err := json.Marshal(headOf(log))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(text), `{"format":"sallyport-audit-head/v1","seq":2,"at":"2026-09-21T14:13:21.123456Z","key_id":"k1","hash":"`), "%s", text)

	var pretty bytes.Buffer
	require.NoError(t, json.Indent(&pretty, text, "", "  "))
	for _, text := range [][]byte{text, pretty.Bytes()} {
		var head tokenstore.AuditHead
		require.NoError(t, json.Unmarshal(text, &head))
		require.Empty(t, cmp.Diff(headOf(log), head))
		require.Empty(t, problems(t, ring, log, headOf(log), &head))
	}
}

func TestAHeadThatIsWrittenInAnyOtherWayIsRefused(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1))
	genuine := headOf(auditLog(t, ring, "k1"))
	hash := hex.EncodeToString(genuine.Hash[:])
	text, err := json.Marshal(genuine)
	require.NoError(t, err)
	for name, c := range map[string]struct{ old, new, says string }{
		"a field that is unknown": {`"seq":1`, `"seq":1,"more":true`, "JSON object"},
		"a number as text":        {`"seq":1`, `"seq":"1"`, "JSON object"},
		"a fraction":              {`"seq":1`, `"seq":1.5`, "JSON object"},
		"another format":          {`head/v1`, `head/v2`, "format"},
		"no format":               {`"format":"sallyport-audit-head/v1",`, ``, "format"},
		"entry 0":                 {`"seq":1`, `"seq":0`, "seq"},
		"no seq":                  {`"seq":1,`, ``, "seq"},
		"no key":                  {`"key_id":"k1",`, ``, "key_id"},
		"what is no key":          {`"k1"`, `"K1"`, "key_id"},
		"another zone":            {`.123456Z`, `.123456+00:00`, "at"},
		"less than microseconds":  {`.123456Z`, `.123Z`, "at"},
		"more than microseconds":  {`.123456Z`, `.1234567Z`, "at"},
		"no time":                 {`"at":"2026-`, `"at":"x2026-`, "at"},
		"a comma for the point":   {`.123456Z`, `,123456Z`, "at"},
		"a short hash":            {`"hash":"`, `"hash":"","x":"`, "JSON object"},
		"an empty hash":           {`"hash":"`, `"mac":"`, "hash"},
		"a hash in capitals":      {hash, strings.ToUpper(hash), "hash"},
		"a hash that is too long": {`"hash":"`, `"hash":"00`, "hash"},
		"a MAC that is too long":  {`"mac":"`, `"mac":"00`, "mac"},
		"MAC of other letters":    {`"mac":"`, `"mac":"zz`, "mac"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, string(text), c.old)
			head := tokenstore.AuditHead{Seq: 7}
			err := head.UnmarshalJSON([]byte(strings.Replace(string(text), c.old, c.new, 1)))
			require.ErrorContains(t, err, c.says)
			require.Equal(t, tokenstore.AuditHead{Seq: 7}, head, "nothing is half read")
		})
	}
	var head tokenstore.AuditHead
	require.Error(t, json.Unmarshal([]byte("null"), &head))
}

// FuzzAuditHead: what is accepted says the same when it is written again.
func FuzzAuditHead(f *testing.F) {
	ring := parseRing(f, keyLine("k1", 1))
	text, err := json.Marshal(headOf(auditLog(f, ring, "k1")))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{}`))
	f.Add(bytes.Replace(text, []byte("Z"), []byte("+01:00"), 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		var head, again tokenstore.AuditHead
		if json.Unmarshal(text, &head) != nil {
			return
		}
		written, err := json.Marshal(head)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(written, &again); err != nil || again != head {
			t.Fatalf("%v %v, %v", head, again, err)
		}
	})
}

func TestHashesTellEntriesApartWhateverTheyHold(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1))
	entry := rapid.Custom(func(t *rapid.T) tokenstore.AuditEntry {
		// Few letters and short texts, so that pairs differ by what moved.
		text := func(label string) string {
			return rapid.StringOfN(rapid.SampledFrom([]rune("ab\x00")), 0, 2, -1).Draw(t, label)
		}
		return tokenstore.AuditEntry{
			At:    time.UnixMicro(rapid.Int64Range(-2, 2).Draw(t, "at")).UTC(),
			Actor: tokenstore.Actor{Kind: tokenstore.ActorKind(text("kind")), Name: text("name"), Verified: rapid.Bool().Draw(t, "verified"), Address: text("address")},
			Verb:  text("verb"), Target: text("target"), AccountID: token.ID(text("account")),
			Before: []byte(text("before")), After: []byte(text("after")), RequestID: text("request"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		a, b := entry.Draw(t, "a"), entry.Draw(t, "b")
		same := reflect.DeepEqual(a, b)
		require.NoError(t, ring.Seal("k1", tokenstore.AuditHead{}, &a))
		require.NoError(t, ring.Seal("k1", tokenstore.AuditHead{}, &b))
		require.Equal(t, same, a.Hash == b.Hash)
	})
}
