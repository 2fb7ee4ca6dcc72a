/**
 * Which of the 16,384 slots of a Redis Cluster a key belongs to.
 */

const slotCount = 16_384

// CRC16 of one byte, with the polynomial x^16 + x^12 + x^5 + 1
const table = Uint16Array.from({ length: 256 }, (_, byte) => {
  let crc = byte << 8
  for (let bit = 0; bit < 8; bit++) crc = crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1
  return crc
})

const encoder = new TextEncoder()

const crc16 = (text: string): number => {
  let crc = 0
  for (const byte of encoder.encode(text)) crc = ((crc << 8) ^ (table[((crc >> 8) ^ byte) & 0xff] ?? 0)) & 0xffff
  return crc
}

/** Only the hash tag counts, if there is one: what is between the first `{` and the next `}`, unless that is nothing. */
export const keySlot = (key: string): number => {
  const open = key.indexOf("{")
  const close = open === -1 ? -1 : key.indexOf("}", open + 1)
  return crc16(close > open + 1 ? key.slice(open + 1, close) : key) % slotCount
}
