package token_test

import (
	"encoding"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/token"
)

func TestEveryEnumerationHasOneSpellingForEachValue(t *testing.T) {
	for _, tt := range []struct {
		make  func(uint8) (value any, pointer encoding.TextUnmarshaler)
		names []string
	}{
		{enumeration[token.Access], []string{"read_only", "read_write", "custom"}},
		{enumeration[token.Environment], []string{"production", "sandbox"}},
		{enumeration[token.State], []string{"active", "disabled", "expired", "revoked", "deleted"}},
		{enumeration[token.SecretStatus], []string{"current", "previous", "retired"}},
		{enumeration[token.Nature], []string{"read", "write"}},
	} {
		zero, _ := tt.make(0)
		t.Run(fmt.Sprintf("%T", zero), func(t *testing.T) {
			require.Equal(t, "none", fmt.Sprint(zero))
			for i, name := range tt.names {
				value, pointer := tt.make(uint8(i + 1))
				require.Equal(t, name, fmt.Sprint(value))
				text, err := json.Marshal(value)
				require.NoError(t, err)
				require.Equal(t, `"`+name+`"`, string(text))
				_, read := tt.make(0)
				require.NoError(t, json.Unmarshal(text, read))
				require.Equal(t, pointer, read)
			}
			for _, v := range []uint8{0, uint8(len(tt.names) + 1), 255} {
				value, _ := tt.make(v)
				_, err := value.(encoding.TextMarshaler).MarshalText()
				require.ErrorContains(t, err, `must be one of ["`+tt.names[0])
				if v > 0 {
					require.Equal(t, fmt.Sprintf("invalid(%d)", v), fmt.Sprint(value))
				}
			}
			for _, bad := range []string{"", "none", "invalid(0)", " " + tt.names[0], tt.names[0] + "\n", "READ", "Active", "s3cr3t"} {
				_, pointer := tt.make(1)
				err := pointer.UnmarshalText([]byte(bad))
				require.ErrorContains(t, err, "must be one of", bad)
				require.NotContains(t, err.Error(), "s3cr3t")
				_, want := tt.make(0)
				require.Equal(t, want, pointer, "what could not be read is no valid value")
			}
		})
	}
}

func enumeration[T interface {
	~uint8
	fmt.Stringer
	encoding.TextMarshaler
}](v uint8,
) (any, encoding.TextUnmarshaler) {
	value := T(v)
	return value, any(&value).(encoding.TextUnmarshaler)
}
