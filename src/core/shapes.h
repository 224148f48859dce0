// The letters used in shapes and as name suffixes (x_btd is [B, T, D]) throughout the code.
//
//   B  sequences in a micro-batch        H  heads of a mixer
//   T  tokens of a sequence              P  head width (channels of X, V)
//   D  hidden size                       N  state width of the SSM (channels of C, B), or of Q and K
//   F  MLP width                         G  groups that share B and C (SSD), or heads of K and V (attention)
//   V  vocabulary size                   L  tokens of a chunk
//   W  columns of a packed projection    K  chunks of a sequence
#pragma once
