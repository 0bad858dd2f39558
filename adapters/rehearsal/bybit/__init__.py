"""The rehearsal exchange in the words of Bybit's v5 API: linear perpetuals, public and private."""
