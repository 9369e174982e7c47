package token_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/token"
)

var update = flag.Bool("update", false, "write the golden files anew")

// vectorFile is the published form of the secret format: whoever writes a
// scanner or a client in another language tests it with this.
type vectorFile struct {
	About    string   `json:"about"`
	Pattern  string   `json:"pattern"`
	Prefixes []string `json:"prefixes"`
	Vectors  []vector `json:"vectors"`
}

type vector struct {
	Why         string `json:"why"`
	Text        string `json:"text"`
	Valid       bool   `json:"valid"`
	Candidate   bool   `json:"candidate"` // the pattern finds exactly the text
	Environment string `json:"environment,omitempty"`
	Random      string `json:"random,omitempty"`
	SHA256      string `json:"sha256,omitempty"`
	Last4       string `json:"last4,omitempty"`
}

const vectorPath = "testdata/secrets.json"

// The reference below shares nothing with the package: big integers, and the
// checksum bit by bit from its polynomial.

const digits62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func referenceDigits(n *big.Int, width int) string {
	n = new(big.Int).Set(n)
	digits := []byte(strings.Repeat("0", width))
	for i := width - 1; i >= 0; i-- {
		digit := new(big.Int)
		n.DivMod(n, big.NewInt(62), digit)
		digits[i] = digits62[digit.Int64()]
	}
	if n.Sign() != 0 {
		panic("the number has more digits")
	}
	return string(digits)
}

func referenceSum(text string) string {
	crc := uint32(0xffffffff)
	for _, b := range []byte(text) {
		crc ^= uint32(b)
		for range 8 {
			if crc&1 == 1 {
				crc = crc>>1 ^ 0xedb88320
			} else {
				crc >>= 1
			}
		}
	}
	return referenceDigits(big.NewInt(int64(^crc)), 6)
}

func sealed(text string) string { return text + referenceSum(text) }

func number(hexDigits string) *big.Int {
	n, ok := new(big.Int).SetString(hexDigits, 16)
	if !ok {
		panic("not a number")
	}
	return n
}

// Well-known texts, so that nobody takes a vector for a secret.
var (
	counting = strings.Repeat("0123456789abcdef", 4)
	digestOf = fmt.Sprintf("%x", sha256.Sum256([]byte("sallyport test vector")))
	zeros    = strings.Repeat("0", 64)
	ones     = strings.Repeat("f", 64)
)

func referenceVectors() vectorFile {
	file := vectorFile{
		About: "Test vectors of Sallyport's secrets: PREFIX_MARK_RC. MARK is live or test. R is 256 random bits (hexadecimal in \"random\"), " +
			"big-endian, as 43 digits of base 62 (0-9A-Za-z), padded with zeros. C is the CRC-32 (IEEE) of every byte before it, as 6 digits. " +
			"A text is valid only under one of \"prefixes\". \"candidate\": the pattern finds exactly the text, so that a scanner goes on to the checksum. " +
			"These are no secrets of anybody.",
		Pattern:  token.Pattern,
		Prefixes: []string{"sp", "acme", "a0", "abcdefghijklmnop"},
	}
	valid := func(why, prefix, mark, random string) {
		text := sealed(prefix + "_" + mark + "_" + referenceDigits(number(random), 43))
		file.Vectors = append(file.Vectors, vector{
			Why: why, Text: text, Valid: true, Candidate: true,
			Environment: map[string]string{"live": "production", "test": "sandbox"}[mark],
			Random:      random, SHA256: fmt.Sprintf("%x", sha256.Sum256([]byte(text))), Last4: text[len(text)-4:],
		})
	}
	refused := func(candidate bool, why, text string) {
		file.Vectors = append(file.Vectors, vector{Why: why, Text: text, Candidate: candidate})
	}

	valid("A production secret.", "sp", "live", counting)
	valid("A sandbox secret of the same bits has another mark, so another checksum.", "sp", "test", counting)
	valid("The smallest R: 43 zeros.", "sp", "live", zeros)
	valid("R = 1 is padded with zeros.", "sp", "live", zeros[:63]+"1")
	valid("The largest R: 2^256-1.", "sp", "live", ones)
	valid("An R whose high bytes are zero keeps all of its 43 digits.", "sp", "test", zeros[:32]+digestOf[:32])
	valid("Another prefix of the operator's.", "acme", "live", digestOf)
	valid("The shortest prefix may have a digit at its end.", "a0", "test", digestOf)
	valid("The longest prefix.", "abcdefghijklmnop", "live", digestOf)

	r := referenceDigits(number(digestOf), 43)
	good := sealed("sp_live_" + r)
	swapCase := func(c byte) string { return string(c ^ 0x20) }
	letter := strings.IndexFunc(r, func(c rune) bool { return c >= 'A' })
	other := map[bool]string{true: "1", false: "0"}

	refused(true, "The last digit of the checksum is another.", good[:len(good)-1]+other[good[len(good)-1] == '0'])
	refused(true, "The first digit of the checksum is another.", good[:51]+other[good[51] == '0']+good[52:])
	refused(true, "One digit of R is another.", good[:20]+other[good[20] == '0']+good[21:])
	refused(true, "Two digits of R have changed places.", good[:10]+good[11:12]+good[10:11]+good[12:])
	refused(true, "A letter of R has the other case.", good[:8+letter]+swapCase(good[8+letter])+good[9+letter:])
	refused(true, "The checksum is that of the same R under another mark.", "sp_live_"+r+referenceSum("sp_test_"+r))
	refused(true, "The checksum leaves the prefix and the mark out.", "sp_live_"+r+referenceSum(r))
	refused(true, "The checksum is larger than 32 bits can be.", "sp_live_"+r+"zzzzzz")
	refused(true, "R is 2^256, which is no longer 256 bits; the checksum is right.", sealed("sp_live_"+referenceDigits(new(big.Int).Lsh(big.NewInt(1), 256), 43)))
	refused(true, "R is the largest number of 43 digits; the checksum is right.", sealed("sp_live_"+strings.Repeat("z", 43)))
	refused(true, "The prefix is well-formed, but not one of the operator's.", sealed("zz_live_"+r))
	refused(true, "The prefix begins with one of the operator's.", sealed("spx_live_"+r))
	refused(false, "The prefix is too short.", sealed("s_live_"+r))
	refused(false, "The prefix is too long.", sealed("abcdefghijklmnopq_live_"+r))
	refused(false, "The prefix is in upper case.", sealed("SP_live_"+r))
	refused(false, "The prefix begins with a digit.", sealed("0sp_live_"+r))
	refused(false, "There is no prefix.", sealed("_live_"+r))
	refused(false, "The mark is neither live nor test.", sealed("sp_prod_"+r))
	refused(false, "The mark is in upper case.", sealed("sp_LIVE_"+r))
	refused(false, "The mark is missing.", sealed("sp_"+r))
	refused(false, "Hyphens stand for the underscores.", sealed("sp-live-"+r))
	refused(false, "The last character is missing.", good[:len(good)-1])
	refused(false, "The first character is missing, and with it the prefix is too short.", good[1:])
	refused(false, "The checksum is missing.", good[:len(good)-6])
	refused(false, "Only prefix and mark.", "sp_live_")
	refused(false, "R has lost the zero before it; the checksum is right.", sealed("sp_live_"+referenceDigits(number(zeros[:32]+digestOf[:32]), 43)[1:]))
	refused(false, "R has one more zero before it; the checksum is right.", sealed("sp_live_0"+r))
	refused(false, "One digit too many at the end.", good+"0")
	refused(false, "Longer than any credential that is looked at.", "sp_live_"+strings.Repeat("0", 300))
	refused(false, "R has a character of base64 that is no digit; the checksum is right.", sealed("sp_live_"+r[:42]+"+"))
	refused(false, "R has a hyphen in it; the checksum is right.", sealed("sp_live_"+r[:20]+"-"+r[21:]))
	refused(false, "R has an underscore in it; the checksum is right.", sealed("sp_live_"+r[:20]+"_"+r[21:]))
	refused(false, "R has a letter outside ASCII; the checksum is right.", sealed("sp_live_"+r[:20]+"é"+r[22:]))
	refused(false, "A NUL in R; the checksum is right.", sealed("sp_live_"+r[:20]+"\x00"+r[21:]))
	refused(true, "Everything in lower case.", strings.ToLower(good))
	refused(false, "Everything in upper case.", strings.ToUpper(good))
	refused(false, "A space before it.", " "+good)
	refused(false, "A space after it.", good+" ")
	refused(false, "A line end after it.", good+"\n")
	refused(false, "The checksum counts a space in R.", sealed("sp_live_"+r[:20]+" "+r[21:]))
	refused(false, "Empty.", "")
	return file
}

func TestPublishedVectorsAreWhatTheReferenceMakes(t *testing.T) {
	var want bytes.Buffer
	encoder := json.NewEncoder(&want)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	require.NoError(t, encoder.Encode(referenceVectors()))
	if *update {
		require.NoError(t, os.MkdirAll(filepath.Dir(vectorPath), 0o755))
		require.NoError(t, os.WriteFile(vectorPath, want.Bytes(), 0o644))
	}
	got, err := os.ReadFile(vectorPath)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(want.String(), string(got)), "run go test ./token -update")
}

func publishedVectors(t testing.TB) vectorFile {
	t.Helper()
	text, err := os.ReadFile(vectorPath)
	require.NoError(t, err)
	var file vectorFile
	require.NoError(t, json.Unmarshal(text, &file))
	require.NotEmpty(t, file.Vectors)
	return file
}

func TestEveryPublishedVectorIsAcceptedOrRefusedAsItSays(t *testing.T) {
	file := publishedVectors(t)
	for _, v := range file.Vectors {
		t.Run(v.Why, func(t *testing.T) {
			secret, err := token.ParseSecret(v.Text, file.Prefixes)
			if !v.Valid {
				require.ErrorIs(t, err, token.ErrMalformed)
				require.True(t, secret.IsZero())
				return
			}
			require.NoError(t, err)
			require.Equal(t, v.Text, secret.Reveal())
			require.Equal(t, v.Environment, secret.Environment().String())
			require.Equal(t, v.Last4, secret.Last4())
			digest := secret.Digest()
			require.Equal(t, v.SHA256, hex.EncodeToString(digest[:]))

			random, err := hex.DecodeString(v.Random)
			require.NoError(t, err)
			prefix, _, _ := strings.Cut(v.Text, "_")
			made, err := token.NewSecret(bytes.NewReader(random), prefix, secret.Environment())
			require.NoError(t, err)
			require.Equal(t, v.Text, made.Reveal())
		})
	}
}

func TestThePatternFindsWhatTheVectorsCallACandidate(t *testing.T) {
	file := publishedVectors(t)
	require.Equal(t, token.Pattern, file.Pattern)
	pattern := regexp.MustCompile(token.Pattern)
	for _, v := range file.Vectors {
		t.Run(v.Why, func(t *testing.T) {
			require.Equal(t, v.Candidate, v.Text != "" && pattern.FindString(v.Text) == v.Text)
			if v.Valid {
				for _, around := range []string{"%s", "key=%s;", `{"key":"%s"}`, "Authorization: Bearer %s\r\n", "https://x/?k=%s&y", "'%s'"} {
					require.Equal(t, []string{v.Text}, pattern.FindAllString(fmt.Sprintf(around, v.Text), -1), around)
				}
			}
		})
	}
}

func TestASecretUnderAPrefixThatIsNotAcceptedIsMalformed(t *testing.T) {
	text := newSecret(t, 1).Reveal()
	for _, prefixes := range [][]string{nil, {}, {""}, {"s"}, {"sp_live"}, {"SP"}, {"acme"}} {
		_, err := token.ParseSecret(text, prefixes)
		require.ErrorIs(t, err, token.ErrMalformed)
	}
	// A prefix that CheckPrefix refuses opens nothing, however it got here.
	bad := sealed("s_p_live_" + referenceDigits(number(counting), 43))
	_, err := token.ParseSecret(bad, []string{"s_p"})
	require.ErrorIs(t, err, token.ErrMalformed)
	_, err = token.ParseSecret(text, []string{"old", "sp"})
	require.NoError(t, err)
}

func TestPrefixesAreTwoToSixteenLowerCaseLettersAndDigits(t *testing.T) {
	for _, prefix := range []string{"sp", "a0", "acme", "abcdefghijklmnop", "a000000000000000"} {
		require.NoError(t, token.CheckPrefix(prefix), prefix)
	}
	for _, prefix := range []string{"", "s", "0a", "Sp", "sP", "s_", "s-p", "sé", "abcdefghijklmnopq", " sp", "sp\n"} {
		require.Error(t, token.CheckPrefix(prefix), prefix)
		_, err := token.NewSecret(zeroReader{}, prefix, token.Production)
		require.Error(t, err)
		if len(prefix) > 3 {
			require.NotContains(t, err.Error(), prefix)
		}
	}
}

func TestNoSecretIsMadeWithoutRandomBitsOrAnEnvironment(t *testing.T) {
	broken := errors.New("no entropy")
	_, err := token.NewSecret(iotest.ErrReader(broken), "sp", token.Production)
	require.ErrorIs(t, err, broken)
	_, err = token.NewSecret(bytes.NewReader(make([]byte, 31)), "sp", token.Production)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	for _, env := range []token.Environment{0, 3, 255} {
		_, err = token.NewSecret(zeroReader{}, "sp", env)
		require.Error(t, err)
	}
}

func TestASecretTakesItsBitsFromAReaderThatGivesOneByteAtATime(t *testing.T) {
	random, err := hex.DecodeString(counting)
	require.NoError(t, err)
	whole, err := token.NewSecret(bytes.NewReader(random), "sp", token.Sandbox)
	require.NoError(t, err)
	split, err := token.NewSecret(iotest.OneByteReader(bytes.NewReader(random)), "sp", token.Sandbox)
	require.NoError(t, err)
	require.Equal(t, whole.Digest(), split.Digest())
}

func TestEverySecretMadeAgreesWithTheReferenceAndParsesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		random := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "random")
		prefix := rapid.StringMatching(`[a-z][a-z0-9]{1,15}`).Draw(t, "prefix")
		env := rapid.SampledFrom([]token.Environment{token.Production, token.Sandbox}).Draw(t, "environment")
		mark := map[token.Environment]string{token.Production: "live", token.Sandbox: "test"}[env]

		made, err := token.NewSecret(bytes.NewReader(random), prefix, env)
		require.NoError(t, err)
		want := sealed(prefix + "_" + mark + "_" + referenceDigits(new(big.Int).SetBytes(random), 43))
		require.Equal(t, want, made.Reveal())

		parsed, err := token.ParseSecret(want, []string{"other", prefix})
		require.NoError(t, err)
		require.Equal(t, env, parsed.Environment())
		require.Equal(t, made.Digest(), parsed.Digest())
	})
}

func TestTheZeroSecretIsEmptyAndHarmless(t *testing.T) {
	var s token.Secret
	require.True(t, s.IsZero())
	require.Empty(t, s.Reveal())
	require.Empty(t, s.Last4())
	require.Zero(t, s.Environment())
	require.Equal(t, token.Digest(sha256.Sum256(nil)), s.Digest())
	require.Equal(t, "[redacted]", fmt.Sprint(s))
}

// Rule C19: a secret must not reach a log by any way of printing it, not even
// inside a struct of somebody else's whose fields fmt cannot ask.
func TestNoVerbLoggerOrEncoderShowsASecret(t *testing.T) {
	secret := newSecret(t, 7)
	text := secret.Reveal()
	body := text[len("sp_live_"):]
	type exported struct {
		Secret  token.Secret
		Pointer *token.Secret
		List    []token.Secret
		Any     any
	}
	type hidden struct {
		secret  token.Secret
		pointer *token.Secret
		list    []token.Secret
		byName  map[string]token.Secret
		any     any
	}
	values := map[string]any{
		"value": secret, "pointer": &secret, "slice": []token.Secret{secret}, "map": map[string]token.Secret{"k": secret},
		"exported": exported{secret, &secret, []token.Secret{secret}, secret},
		"hidden":   hidden{secret, &secret, []token.Secret{secret}, map[string]token.Secret{"k": secret}, secret},
		"error":    fmt.Errorf("with %v", secret),
	}
	clean := func(t *testing.T, out string) {
		t.Helper()
		for _, leak := range []string{text, body, hex.EncodeToString([]byte(body)), strings.ToUpper(hex.EncodeToString([]byte(body))), fmt.Sprintf("%d", []byte(body))} {
			// Without the text in the message: the test's own log is a log too.
			require.False(t, strings.Contains(out, leak), "the output shows the secret")
		}
	}
	for name, value := range values {
		t.Run(name, func(t *testing.T) {
			for _, verb := range "vsqxXdbocUeEfFgGtTpw!" {
				for _, flags := range []string{"", "+", "#", "-", " ", "0", "+#", "100", ".3", "#100.50"} {
					clean(t, fmt.Sprintf("%"+flags+string(verb), value))
				}
			}
			clean(t, fmt.Sprint(value)+fmt.Sprintln(value))
			for _, handler := range []func(io.Writer) slog.Handler{
				func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
				func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
			} {
				var out strings.Builder
				slog.New(handler(&out)).Info("made", "value", value, slog.Group("in", "value", value))
				require.NotEmpty(t, out.String())
				clean(t, out.String())
			}
			if out, err := json.Marshal(value); err == nil {
				clean(t, string(out))
			}
		})
	}
	require.Equal(t, "[redacted]", secret.String())
	require.Equal(t, "[redacted]", secret.GoString())
	require.Equal(t, "[redacted] [redacted] [redacted]", fmt.Sprintf("%v %x %#v", secret, secret, secret))
	require.Equal(t, "[redacted]", secret.LogValue().String())
	out, err := json.Marshal(map[string]any{"a": secret, "b": &secret})
	require.NoError(t, err)
	require.JSONEq(t, `{"a":"[redacted]","b":"[redacted]"}`, string(out))
	marshalled, err := secret.MarshalText()
	require.NoError(t, err)
	require.Equal(t, "[redacted]", string(marshalled))
	var request struct{ Secret token.Secret }
	require.Error(t, json.Unmarshal([]byte(`{"Secret":"[redacted]"}`), &request), "a secret has no way back from JSON")
}

func TestADigestDoesNotPrintItsBytes(t *testing.T) {
	digest := newSecret(t, 3).Digest()
	for _, verb := range "vsqxXd" {
		for _, flags := range []string{"", "+", "#"} {
			require.Equal(t, "[digest]", fmt.Sprintf("%"+flags+string(verb), digest))
		}
	}
	require.Equal(t, "[digest]", digest.String())
	var out strings.Builder
	slog.New(slog.NewJSONHandler(&out, nil)).Info("seen", "digest", digest)
	require.Contains(t, out.String(), `"digest":"[digest]"`)
}

func TestParsingAndHashingASecretAllocatesNothing(t *testing.T) {
	text, prefixes := newSecret(t, 9).Reveal(), []string{"acme", "sp"}
	var digest token.Digest
	bad := text[:len(text)-1] + "!"
	require.Zero(t, testing.AllocsPerRun(100, func() {
		secret, err := token.ParseSecret(text, prefixes)
		if err != nil {
			panic(err)
		}
		digest = secret.Digest()
		if _, err := token.ParseSecret(bad, prefixes); err == nil {
			panic("accepted")
		}
	}))
	require.NotZero(t, digest)
}

func FuzzParseSecret(f *testing.F) {
	for _, v := range referenceVectors().Vectors {
		f.Add(v.Text)
	}
	prefixes := referenceVectors().Prefixes
	pattern := regexp.MustCompile(`\A(?:` + token.Pattern + `)\z`)
	f.Fuzz(func(t *testing.T, text string) {
		secret, err := token.ParseSecret(text, prefixes)
		if err != nil {
			require.ErrorIs(t, err, token.ErrMalformed)
			require.True(t, secret.IsZero())
			return
		}
		// Whatever is accepted is the one spelling of its bits: decoding and
		// encoding it again, by other code, gives the same text.
		require.True(t, pattern.MatchString(text))
		require.Equal(t, text, secret.Reveal())
		parts := strings.SplitN(text, "_", 3)
		n := new(big.Int)
		for _, c := range []byte(parts[2][:43]) {
			n.Mul(n, big.NewInt(62)).Add(n, big.NewInt(int64(strings.IndexByte(digits62, c))))
		}
		require.LessOrEqual(t, n.BitLen(), 256)
		made, err := token.NewSecret(bytes.NewReader(n.FillBytes(make([]byte, 32))), parts[0], secret.Environment())
		require.NoError(t, err)
		require.Equal(t, text, made.Reveal())
	})
}

// newSecret makes a secret of one repeated byte.
func newSecret(t testing.TB, b byte) token.Secret {
	t.Helper()
	secret, err := token.NewSecret(bytes.NewReader(bytes.Repeat([]byte{b}, 32)), token.DefaultPrefix, token.Production)
	require.NoError(t, err)
	return secret
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
