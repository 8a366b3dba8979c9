// How long to wait before the next attempt to connect: at once, then longer and longer up to a cap, for ever.
// The random part keeps all pages of a restarted server from coming back in the same instant.

const FIRST_MS = 500;
const CAP_MS = 15_000;

export function retryDelay(attempt) {
  if (attempt === 0) return Math.random() * FIRST_MS;
  const longest = Math.min(CAP_MS, FIRST_MS * 2 ** attempt);
  return longest / 2 + Math.random() * (longest / 2);
}
