/**
 * Push messages over connections of their own: one on a single server, one for each shard on a cluster.
 *
 * ioredis can subscribe again by itself, but doesn't tell when it has, nor whether it failed. Whoever waits for a
 * message must know: what was published in the meantime is gone.
 */
import type { Cluster, Redis } from "ioredis"
import { tell } from "./handover.ts"
import { keySlot } from "./keySlot.ts"
import { type ConnectionSettings, isCluster, plainOptions, type RedisConnection } from "./redisConnection.ts"

export interface Listener {
  readonly onMessage: (message: string) => void
  /**
   * From now on messages arrive: called when the server has confirmed the subscription, for the first time and after
   * each time that it was lost.
   */
  readonly onEstablished: () => void
}

export interface Subscriptions {
  readonly add: (channel: string, listener: Listener) => void
  readonly remove: (channel: string, listener: Listener) => void
  /** Finds out whether the connections still live, and subscribes again where that failed. */
  readonly check: () => void
  readonly close: () => void
}

interface Events {
  readonly onMessage: (channel: string, message: string) => void
  readonly onEstablished: (channel: string) => void
  /** The server no longer serves a channel. */
  readonly onMoved: () => void
}

type Verb = "subscribe" | "ssubscribe"

/** One subscriber connection. It keeps its channels subscribed for as long as it lives. */
class Subscriber {
  /** Channels, and whether the server has confirmed them on the present connection. */
  readonly channels = new Map<string, boolean>()
  /** How often all of them may have been lost. */
  private losses = 0
  private readonly client: Redis
  private readonly verb: Verb
  private readonly events: Events

  constructor(client: Redis, verb: Verb, events: Events) {
    this.client = client
    this.verb = verb
    this.events = events
    client
      .on("error", () => {})
      .on("ready", () => this.check())
      .on("close", () => this.confirmNone())
      .on("moved", () => {
        this.confirmNone()
        events.onMoved()
      })
      .on(verb === "subscribe" ? "message" : "smessage", events.onMessage)
    client.connect().catch(() => {})
  }

  add(channel: string): void {
    this.channels.set(channel, false)
    this.subscribeIfReady(channel)
  }

  remove(channel: string): void {
    this.channels.delete(channel)
    if (this.client.status !== "ready") return
    const { client } = this
    const done = this.verb === "subscribe" ? client.unsubscribe(channel) : client.sunsubscribe(channel)
    done.catch(() => {})
  }

  check(): void {
    if (this.client.status !== "ready") return
    this.client.ping().catch(() => {})
    for (const [channel, confirmed] of this.channels) if (!confirmed) this.subscribe(channel)
  }

  private subscribeIfReady(channel: string): void {
    if (this.client.status === "ready") this.subscribe(channel)
  }

  private subscribe(channel: string): void {
    const { losses } = this
    this.client[this.verb](channel).then(
      () => {
        if (!this.channels.has(channel)) return
        // The server may have dropped the subscription right behind the confirmation.
        if (this.losses !== losses) return this.subscribeIfReady(channel)
        this.channels.set(channel, true)
        this.events.onEstablished(channel)
      },
      () => {} // the connection dropped, the channel has moved, or the user may not: tried again later
    )
  }

  private confirmNone(): void {
    this.losses++
    for (const channel of this.channels.keys()) this.channels.set(channel, false)
  }

  close(): void {
    this.client.disconnect()
    this.client.stream?.destroy()
  }
}

/** Which listeners a channel has, whoever carries its messages. */
class Listeners {
  private readonly byChannel = new Map<string, Set<Listener>>()

  get channels(): Iterable<string> {
    return this.byChannel.keys()
  }

  /** Tells whether it is the channel's first. */
  add(channel: string, listener: Listener): boolean {
    const listeners = this.byChannel.get(channel)
    if (listeners !== undefined) {
      listeners.add(listener)
      return false
    }
    this.byChannel.set(channel, new Set([listener]))
    return true
  }

  /** Tells whether it was the channel's last. */
  remove(channel: string, listener: Listener): boolean {
    const listeners = this.byChannel.get(channel)
    return listeners?.delete(listener) === true && listeners.size === 0 && this.byChannel.delete(channel)
  }

  readonly onMessage = (channel: string, message: string): void => {
    for (const { onMessage } of this.byChannel.get(channel) ?? []) tell(onMessage, message)
  }

  readonly onEstablished = (channel: string): void => {
    for (const { onEstablished } of this.byChannel.get(channel) ?? []) tell(onEstablished, undefined)
  }
}

export const makeSubscriptions = (connection: RedisConnection): Subscriptions =>
  isCluster(connection.client)
    ? new ShardSubscriptions(connection.client, connection.settings)
    : new SingleSubscriptions(connection.client, connection.settings)

const open = (like: Redis, settings: ConnectionSettings): Redis =>
  like.duplicate({
    ...plainOptions(settings),
    readOnly: false,
    socketTimeout: settings.replyTimeout,
    enableReadyCheck: Array.isArray(like.options.sentinels)
  })

class SingleSubscriptions implements Subscriptions {
  private readonly listeners = new Listeners()
  private subscriber: Subscriber | undefined
  private readonly client: Redis
  private readonly settings: ConnectionSettings

  constructor(client: Redis, settings: ConnectionSettings) {
    this.client = client
    this.settings = settings
  }

  add(channel: string, listener: Listener): void {
    if (this.listeners.add(channel, listener)) {
      const { onMessage, onEstablished } = this.listeners
      this.subscriber ??= new Subscriber(open(this.client, this.settings), "subscribe", {
        onMessage,
        onEstablished,
        onMoved: () => {}
      })
      this.subscriber.add(channel)
    } else if (this.subscriber?.channels.get(channel)) {
      listener.onEstablished()
    }
  }

  remove(channel: string, listener: Listener): void {
    if (this.listeners.remove(channel, listener)) this.subscriber?.remove(channel)
  }

  check(): void {
    this.subscriber?.check()
  }

  close(): void {
    this.subscriber?.close()
  }
}

class ShardSubscriptions implements Subscriptions {
  private readonly listeners = new Listeners()
  /** By the address of the node that they are connected to. */
  private readonly subscribers = new Map<string, Subscriber>()
  private readonly cluster: Cluster
  private readonly settings: ConnectionSettings

  constructor(cluster: Cluster, settings: ConnectionSettings) {
    this.cluster = cluster
    this.settings = settings
    cluster.on("refresh", () => this.check())
  }

  add(channel: string, listener: Listener): void {
    if (this.listeners.add(channel, listener)) {
      if (this.cluster.status === "wait") this.cluster.connect().catch(() => {})
      this.routeChannel(channel)
    } else if (this.subscribers.get(this.ownerOf(channel) ?? "")?.channels.get(channel)) {
      listener.onEstablished()
    }
  }

  remove(channel: string, listener: Listener): void {
    if (!this.listeners.remove(channel, listener)) return
    for (const subscriber of this.subscribers.values()) {
      if (subscriber.channels.has(channel)) subscriber.remove(channel)
    }
  }

  check(): void {
    this.route()
    for (const subscriber of this.subscribers.values()) subscriber.check()
  }

  close(): void {
    for (const subscriber of this.subscribers.values()) subscriber.close()
  }

  private ownerOf(channel: string): string | undefined {
    return this.cluster.slots[keySlot(channel)]?.[0]
  }

  /** Carries every channel by the node that now owns its slot. */
  private route(): void {
    if (this.cluster.status === "end") return
    for (const channel of this.listeners.channels) this.routeChannel(channel)
    for (const [owner, subscriber] of this.subscribers) {
      if (subscriber.channels.size > 0) continue
      subscriber.close()
      this.subscribers.delete(owner)
    }
  }

  private routeChannel(channel: string): void {
    const owner = this.ownerOf(channel)
    const subscriber = owner === undefined ? undefined : this.subscriberOf(owner)
    if (subscriber === undefined || subscriber.channels.has(channel)) return
    for (const other of this.subscribers.values()) {
      if (other.channels.has(channel)) other.remove(channel)
    }
    subscriber.add(channel)
  }

  private subscriberOf(owner: string): Subscriber | undefined {
    const present = this.subscribers.get(owner)
    if (present !== undefined) return present
    const node = this.cluster.nodes("master").find(({ options }) => `${options.host}:${options.port}` === owner)
    if (node === undefined) return undefined
    const { onMessage, onEstablished } = this.listeners
    const subscriber = new Subscriber(open(node, this.settings), "ssubscribe", {
      onMessage,
      onEstablished,
      onMoved: () => this.cluster.refreshSlotsCache()
    })
    this.subscribers.set(owner, subscriber)
    return subscriber
  }
}
