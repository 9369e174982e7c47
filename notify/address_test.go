package notify_test

import (
	"net/mail"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sallyport/sallyport/notify"
)

var badAddresses = []string{
	"", "kim", "@example.com", "kim@", "kim@example.com\r\nBcc: eve@example.com", "kim@example.com\n", "\"kim\"@example.com",
	"\"kim> RCPT TO:<eve\"@example.com", "Kim <kim@example.com>", "<kim@example.com>", "kim@example.com, eve@example.com",
	"kim@[127.0.0.1]", "kim(comment)@example.com", "kim@example.com ", "kim @example.com", "kïm@example.com", "kim@-example.com",
	"kim@@example.com", "kim\x00@example.com", "kim\\@example.com", strings.Repeat("k", 65) + "@example.com",
	"kim@" + strings.Repeat("e", 251), ".kim@example.com", "kim..x@example.com",
}

// D16
func TestAnAddressIsOnePlainOne(t *testing.T) {
	for _, good := range []string{"kim@example.com", "kim+tokens@mail.example.com", "k@example", "o'hara_1@example.co.uk", strings.Repeat("k", 64) + "@example.com"} {
		require.NoError(t, notify.CheckAddress(good), good)
	}
	for _, bad := range badAddresses {
		require.ErrorIs(t, notify.CheckAddress(bad), notify.ErrAddress, "%q", bad)
	}
}

func FuzzCheckAddress(f *testing.F) {
	for _, bad := range badAddresses {
		f.Add(bad)
	}
	f.Add("kim@example.com")
	f.Fuzz(func(t *testing.T, text string) {
		if notify.CheckAddress(text) != nil {
			return
		}
		if strings.ContainsAny(text, "\r\n\x00 \t<>()[]\",;:\\") || strings.Count(text, "@") != 1 || len(text) > 254 {
			t.Fatalf("%q would be read as something else", text)
		}
		list, err := mail.ParseAddressList(text)
		if err != nil || len(list) != 1 || list[0].Address != text || list[0].Name != "" {
			t.Fatalf("%q is not one address: %v", text, err)
		}
	})
}
