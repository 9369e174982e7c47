package api

import (
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func FuzzReadForm(f *testing.F) {
	for _, seed := range []string{"token=x", "token=x&token=y", "token=%00&ip=1", "a=b;c=d", "%", "token=%ff", "token=+%20", "=&==", "token"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		form, p := readForm(data)
		if p != nil {
			require.Nil(t, form)
			return
		}
		for name, value := range form {
			require.Contains(t, formParameters, name)
			require.True(t, utf8.ValidString(value))
		}
	})
}
