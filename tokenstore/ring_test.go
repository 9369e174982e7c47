package tokenstore_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
	"github.com/sallyport/sallyport/tokenstore"
)

// vectorKey is the bytes 0 to 31.
const vectorKey = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="

func parseRing(t testing.TB, lines ...string) *tokenstore.Ring {
	t.Helper()
	ring, err := tokenstore.ParseRing(strings.NewReader(strings.Join(lines, "\n")))
	require.NoError(t, err)
	return ring
}

// keyLine is a line with a key of its own for each number.
func keyLine(id string, number byte) string {
	raw := bytes.Repeat([]byte{number}, 32)
	raw[0] = ^number
	return id + ":" + base64.StdEncoding.EncodeToString(raw)
}

// What is stored depends on these values: they were computed by another program
// from RFC 5869 and RFC 2104, and must never change.
func TestDerivedValuesAreThoseThatStoresWereWrittenWith(t *testing.T) {
	ring := parseRing(t, "k-1:"+vectorKey)

	check, ok := ring.CheckValue("k-1")
	require.True(t, ok)
	require.Equal(t, "23217a755f57b0b0d56239f107cc2e90", check)

	var digest token.Digest
	for i := range digest {
		digest[i] = byte(32 + i)
	}
	for range 3 { // the first makes the pooled state, the next ones use it
		lookup, ok := ring.Lookup("k-1", digest)
		require.True(t, ok)
		require.Equal(t, "e08f89dbb42e258df92439c862334ff5a1d6309985cc2b1e77441760ae59e0e1", hex.EncodeToString(lookup[:]))
	}
}

func TestARingHoldsTheKeysOfItsFileInOrder(t *testing.T) {
	ring := parseRing(t,
		"# the first is the primary of a new store",
		"",
		"k-new:"+vectorKey,
		"  "+keyLine("a.b_c-9", 9)+" \r",
		"\t# an old one",
		keyLine("0", 2))
	require.Equal(t, []string{"k-new", "a.b_c-9", "0"}, ring.IDs())
	require.True(t, ring.Has("0"))
	require.False(t, ring.Has("k-old"))
	require.False(t, ring.Has(""))

	_, ok := ring.CheckValue("k-old")
	require.False(t, ok)
	_, ok = ring.Lookup("k-old", token.Digest{})
	require.False(t, ok)

	a, _ := ring.Lookup("k-new", token.Digest{1})
	b, _ := ring.Lookup("0", token.Digest{1})
	require.NotEqual(t, a, b)
}

func TestEveryMistakeInAMasterKeyFileIsNamedByItsLineAndNotRepeated(t *testing.T) {
	many := make([]string, tokenstore.MaxRingKeys+1)
	for i := range many {
		many[i] = keyLine(fmt.Sprintf("k%d", i), byte(i))
	}
	unpadded := strings.TrimRight(vectorKey, "=")
	for name, c := range map[string]struct{ text, says string }{
		"an empty file":                      {"", "no key"},
		"a file of comments":                 {"# soon\n\n", "no key"},
		"a line without a colon":             {"# x\n" + vectorKey, "line 2: a line is ID:KEY"},
		"no ID":                              {":" + vectorKey, "line 1: the ID"},
		"an ID in capitals":                  {"K1:" + vectorKey, "line 1: the ID"},
		"an ID that starts with a dot":       {".k:" + vectorKey, "line 1: the ID"},
		"an ID with a space":                 {"k 1:" + vectorKey, "line 1: the ID"},
		"an ID that is too long":             {strings.Repeat("k", 65) + ":" + vectorKey, "line 1: the ID"},
		"ID and key swapped":                 {vectorKey + ":k1", "line 1: the ID"},
		"a key without padding":              {"k1:" + unpadded, "line 1: the key"},
		"a key in the URL alphabet":          {"k1:" + strings.Repeat("_", 43) + "=", "line 1: the key"},
		"a key with bits after its end":      {"k1:" + unpadded[:42] + "9=", "line 1: the key"},
		"a line end within the key":          {"k1:" + vectorKey[:20] + "\r" + vectorKey[20:], "line 1: the key"},
		"a line end in place of a character": {"k1:" + vectorKey[:20] + "\r" + vectorKey[21:], "line 1: the key"},
		"a key of 31 bytes":                  {"k1:" + base64.StdEncoding.EncodeToString(make([]byte, 31)), "line 1: the key"},
		"a key of 33 bytes":                  {"k1:" + base64.StdEncoding.EncodeToString(make([]byte, 33)), "line 1: the key"},
		"a key of zeroes":                    {"k1:" + base64.StdEncoding.EncodeToString(make([]byte, 32)), "line 1: the key repeats one byte"},
		"an ID twice":                        {keyLine("k1", 1) + "\n\n" + keyLine("k1", 2), "line 3: its ID stands on line 1"},
		"a key twice":                        {keyLine("k1", 1) + "\n" + keyLine("k2", 1), "line 2: its key stands on line 1"},
		"too many keys":                      {strings.Join(many, "\n"), "line 65: more than 64 keys"},
		"another file":                       {strings.Repeat("x", 64<<10+1), "more than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			ring, err := tokenstore.ParseRing(strings.NewReader(c.text))
			require.Nil(t, ring)
			require.ErrorContains(t, err, c.says)
			for line := range strings.SplitSeq(c.text, "\n") {
				for part := range strings.SplitSeq(line, ":") {
					if len(part) > 3 {
						require.NotContains(t, err.Error(), part)
					}
				}
			}
		})
	}
}

func TestAFileThatCanNotBeReadIsAnError(t *testing.T) {
	broken := errors.New("disk")
	_, err := tokenstore.ParseRing(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	_, err = tokenstore.NewRing(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
	_, err = tokenstore.NewRing(bytes.NewReader(make([]byte, 31)))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestANewRingIsNamedAfterItsCheckValueAndSurvivesItsFile(t *testing.T) {
	ring, err := tokenstore.NewRing(rand.Reader)
	require.NoError(t, err)
	require.Len(t, ring.IDs(), 1)
	check, _ := ring.CheckValue(ring.IDs()[0])
	require.Equal(t, "k-"+check[:8], ring.IDs()[0])

	var file bytes.Buffer
	n, err := ring.WriteTo(&file)
	require.NoError(t, err)
	require.EqualValues(t, file.Len(), n)
	again, err := tokenstore.ParseRing(&file)
	require.NoError(t, err)
	sameRing(t, ring, again)

	other, err := tokenstore.NewRing(rand.Reader)
	require.NoError(t, err)
	require.NotEqual(t, ring.IDs(), other.IDs())
}

func sameRing(t testing.TB, a, b *tokenstore.Ring) {
	t.Helper()
	require.Empty(t, cmp.Diff(a.IDs(), b.IDs()))
	for _, id := range a.IDs() {
		ca, _ := a.CheckValue(id)
		cb, _ := b.CheckValue(id)
		require.Equal(t, ca, cb)
		la, _ := a.Lookup(id, token.Digest{7})
		lb, _ := b.Lookup(id, token.Digest{7})
		require.Equal(t, la, lb)
	}
}

// A secret must be found nowhere (S13): neither in any verb, nor in JSON, logs
// or errors, nor where fmt can not call methods.
func TestARingPrintsAsRedactedEverywhere(t *testing.T) {
	ring := parseRing(t, "k-1:"+vectorKey)
	raw, _ := base64.StdEncoding.DecodeString(vectorKey)

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%e", "%t"} {
		fmt.Fprintf(&out, verb+"\n", ring)
		fmt.Fprintf(&out, verb+"\n", *ring)
		fmt.Fprintf(&out, verb+"\n", struct{ Ring *tokenstore.Ring }{ring})
		fmt.Fprintf(&out, verb+"\n", struct{ Ring tokenstore.Ring }{*ring})
		fmt.Fprintf(&out, verb+"\n", struct{ ring tokenstore.Ring }{*ring})
	}
	fmt.Fprintln(&out, ring.String(), fmt.Errorf("with %v", ring))
	slog.New(slog.NewTextHandler(&out, nil)).Info("ring", "ring", ring, "value", *ring)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("ring", "ring", ring, "value", *ring)
	for _, v := range []any{ring, *ring, map[string]any{"ring": ring}} {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		out.Write(text)
	}

	require.Contains(t, out.String(), "redacted")
	for _, trace := range []string{
		vectorKey[:8], hex.EncodeToString(raw[:4]), strings.ToUpper(hex.EncodeToString(raw[8:12])),
		"4 5 6 7", "0x4, 0x5, 0x6, 0x7", "0, 1, 2, 3", "0 1 2 3", string(raw[:6]),
	} {
		require.NotContains(t, out.String(), trace)
	}
}

func TestLookupsMayBeDerivedConcurrently(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1), keyLine("k2", 2))
	want := map[string]tokenstore.Lookup{}
	for _, id := range ring.IDs() {
		want[id], _ = ring.Lookup(id, token.Digest{1})
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				for id, l := range want {
					if got, ok := ring.Lookup(id, token.Digest{1}); !ok || got != l {
						t.Errorf("another lookup value under %s", id)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestALookupDoesNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	ring := parseRing(t, keyLine("k1", 1))
	digest := token.Digest{1}
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, ok := ring.Lookup("k1", digest); !ok {
			t.Error("no lookup")
		}
	}))
}

func TestARingIsCheckedAgainstWhatTheStoreKnows(t *testing.T) {
	ring := parseRing(t, keyLine("k1", 1), keyLine("k2", 2), keyLine("extra", 3))
	value := func(id string) string {
		v, _ := ring.CheckValue(id)
		return v
	}
	for name, c := range map[string]struct {
		known []tokenstore.MasterKey
		says  []string // nothing: fine
	}{
		"a new store":    {nil, nil},
		"all keys there": {[]tokenstore.MasterKey{{ID: "k1", CheckValue: value("k1"), Primary: true}, {ID: "k2", CheckValue: value("k2"), Live: 3}}, nil},
		"a key that nothing in use is under may be missing": {
			[]tokenstore.MasterKey{{ID: "k1", CheckValue: value("k1"), Primary: true}, {ID: "k0", CheckValue: "00", Retired: 9}}, nil,
		},
		"the primary is missing": {
			[]tokenstore.MasterKey{{ID: "k0", CheckValue: "00", Primary: true}},
			[]string{`"k0" is the store's primary and is missing: add its line back`},
		},
		"a key in use is missing": {
			[]tokenstore.MasterKey{{ID: "k0", CheckValue: "00", Live: 3}},
			[]string{`"k0" is missing, and 3 secrets in use are under it: add its line back`},
		},
		"other bytes under an ID": {
			[]tokenstore.MasterKey{{ID: "k1", CheckValue: value("k2"), Primary: true}},
			[]string{`"k1": the bytes under this ID differ from those that the store was used with`},
		},
		"other bytes under an ID out of use": {
			[]tokenstore.MasterKey{{ID: "k2", CheckValue: "00"}},
			[]string{`"k2": the bytes under this ID differ`},
		},
		"several at once": {
			[]tokenstore.MasterKey{{ID: "k0", CheckValue: "00", Live: 1}, {ID: "k1", CheckValue: "00"}},
			[]string{`"k0"`, `"k1"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			err := ring.CheckAgainst(c.known)
			if c.says == nil {
				require.NoError(t, err)
			}
			for _, says := range c.says {
				require.ErrorContains(t, err, says)
			}
		})
	}
}

// FuzzParseRing: whatever the file holds, the answer is an error that repeats
// nothing of it, or a ring that its own writing gives back.
func FuzzParseRing(f *testing.F) {
	f.Add([]byte("k-1:" + vectorKey))
	f.Add([]byte("# c\n\n" + keyLine("a", 1) + "\r\n" + keyLine("b", 2) + "\n"))
	f.Add([]byte("a:" + vectorKey + "\nb:" + vectorKey))
	f.Add([]byte(":\n:"))
	f.Add([]byte{0, '\n', 0xff, ':'})
	f.Fuzz(func(t *testing.T, text []byte) {
		ring, err := tokenstore.ParseRing(bytes.NewReader(text))
		if err != nil {
			return
		}
		if n := len(ring.IDs()); n < 1 || n > tokenstore.MaxRingKeys {
			t.Fatalf("%d keys", n)
		}
		var file bytes.Buffer
		if _, err := ring.WriteTo(&file); err != nil {
			t.Fatal(err)
		}
		again, err := tokenstore.ParseRing(&file)
		if err != nil {
			t.Fatalf("its own writing is refused: %v", err)
		}
		sameRing(t, ring, again)
	})
}

func BenchmarkLookup(b *testing.B) {
	ring := parseRing(b, keyLine("k1", 1))
	digest := token.Digest{1}
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := ring.Lookup("k1", digest); !ok {
			b.Fatal("no lookup")
		}
	}
}

func BenchmarkLookupParallel(b *testing.B) {
	ring := parseRing(b, keyLine("k1", 1))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		digest := token.Digest{1}
		for pb.Next() {
			if _, ok := ring.Lookup("k1", digest); !ok {
				b.Error("no lookup")
			}
		}
	})
}
