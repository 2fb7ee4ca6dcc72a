/**
 * What a terminal does not show, but does.
 */
const csi = "\u001B["

/** All that is on the screen makes room for another one, and comes back. */
export const enterScreen = `${csi}?1049h`
export const leaveScreen = `${csi}?1049l`

export const hideCursor = `${csi}?25l`
export const showCursor = `${csi}?25h`

/** Terminals that know it show what comes between the two at once. */
export const beginUpdate = `${csi}?2026h`
export const endUpdate = `${csi}?2026l`

/** To the upper left. */
export const goHome = `${csi}H`
export const goUp = (rows: number): string => (rows === 0 ? "" : `${csi}${rows}A`)

export const eraseToEndOfLine = `${csi}K`
export const eraseBelow = `${csi}J`

export const inked = (text: string, code: string): string => (code === "" ? text : `${csi}${code}m${text}${csi}0m`)
