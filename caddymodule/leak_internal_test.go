package caddymodule

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSecretsOfAReportAreReadALineEach(t *testing.T) {
	found, err := scanLeaks(strings.NewReader("\n first \r\n\t\nsecond"))
	require.NoError(t, err)
	require.Len(t, found, 2)
	require.Equal(t, 2, found[0].line)
	require.Equal(t, "first", found[0].secret.Reveal())
	require.Equal(t, 4, found[1].line)
	require.Equal(t, "second", found[1].secret.Reveal())

	const mark = "sp_live_M4rk3r"
	for _, text := range []string{"", "\n \n", strings.Repeat(mark, 40), strings.Repeat(mark, 40_000), strings.Repeat(mark+"\n", maxLeakLines+1)} {
		_, err := scanLeaks(strings.NewReader(text))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "M4rk")
	}
}
