import { randomUUID } from "node:crypto"

/** A key prefix that no other test uses, so that tests run in parallel against one server without meeting. */
export const freshKeyPrefix = (): string => `steindamm-test:${randomUUID()}:`
