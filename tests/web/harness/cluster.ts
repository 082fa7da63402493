// Stands in for clusters and laptops: leaves in the hub's database what their reports leave there, and announces it the
// way the hub's own writes do. Everything that a person does goes through the page; the real path of an agent's report is
// the matter of the cluster tests.

import { createHash, randomBytes, randomUUID } from 'node:crypto'
import pg from 'pg'

const CHANNEL = 'fairlead_changes'

export interface Listed {
  name: string
  refusal?: string
}

export class Clusters {
  private constructor(private readonly database: pg.Pool) {}

  static connect(databaseUrl: string): Clusters {
    const database = new pg.Pool({ connectionString: databaseUrl, max: 2 })
    // The database goes down with the hub; the pool connects anew.
    database.on('error', () => undefined)
    return new Clusters(database)
  }

  async disconnect(): Promise<void> {
    await this.database.end()
  }

  /** An agent joins: its key, one replica, and the services of a namespace `shop`. */
  async join(teamspace: string, services: Listed[]): Promise<string> {
    const { org_id, id } = await this.teamspace(teamspace)
    const key = randomBytes(32)
    await this.database.query(
      `update teamspaces set certificate = $3, key_thumbprint = $4, cluster_uid = $5, enrolled_at = now()
       where org_id = $1 and id = $2`,
      [org_id, id, Buffer.from('certificate'), key, randomUUID()],
    )
    await this.database.query(
      `insert into replicas (org_id, teamspace_id, name, version, connected_at)
       values ($1, $2, 'fairlead-agent-7c9d5b-x2x4z', '0.1.0', now())`,
      [org_id, id],
    )
    for (const { name, refusal } of services) {
      const port = { name: 'http', port: 80, protocol: 'TCP', target_port: 'http' }
      const ports = [{ ...port, app_protocol: '' }]
      await this.database.query(
        `insert into services (org_id, teamspace_id, namespace, name, type, ports, workload, ready_endpoints,
                               labels, intercept_refusal)
         values ($1, $2, 'shop', $3, 'ClusterIP', $4, $5, 2, '{}', $6)`,
        [org_id, id, name, JSON.stringify(ports), `Deployment/${name}`, refusal ?? null],
      )
    }
    await this.announce(org_id, 'teamspaces', id)
    await this.announce(org_id, 'services', id)
    return `SHA256:${key.toString('base64').replace(/=+$/, '')}`
  }

  /** Somebody's laptop intercepts a service. */
  async intercept(teamspace: string, service: string, email: string): Promise<void> {
    const { org_id, id } = await this.teamspace(teamspace)
    const device = await this.device(org_id, email)
    const session = randomUUID()
    await this.database.query(
      `insert into sessions (org_id, id, kind, teamspace_id, user_id, device_id, namespace, name, ports, grace_s,
                             phase, created_at, renewed_at)
       select $1, $2, 'intercept', $3, d.user_id, d.id, 'shop', $4, $5, 15, 'active', now(), now()
       from devices d where d.org_id = $1 and d.id = $6`,
      [
        org_id,
        session,
        id,
        service,
        JSON.stringify([{ service_port: 80, laptop_port: 8080 }]),
        device,
      ],
    )
    await this.announce(org_id, 'sessions', session)
  }

  private async device(org: string, email: string): Promise<string> {
    const id = randomUUID()
    const jkt = createHash('sha256').update(id).digest('base64url')
    await this.database.query(
      `insert into devices (org_id, id, user_id, name, thumbprint, key_jkt, created_at, certificate_expires_at)
       select org_id, $2, id, 'laptop', $3, $4, now(), now() + interval '12 hours'
       from users where org_id = $1 and email = $5`,
      [org, id, randomBytes(32), jkt, email],
    )
    // A laptop's sessions stand on a sign-in with its key.
    await this.database.query(
      `insert into token_families (org_id, id, user_id, key_jkt, created_at, last_used_at)
       select org_id, $2, id, $3, now(), now() from users where org_id = $1 and email = $4`,
      [org, randomUUID(), jkt, email],
    )
    return id
  }

  private async teamspace(name: string): Promise<{ org_id: string; id: string }> {
    const found = await this.database.query('select org_id, id from teamspaces where name = $1', [
      name,
    ])
    if (found.rows.length !== 1) throw new Error(`${found.rows.length} teamspaces called ${name}`)
    return found.rows[0]
  }

  private async announce(org: string, noun: string, id: string): Promise<void> {
    await this.database.query('select pg_notify($1, $2)', [CHANNEL, `${org} ${noun} ${id}`])
  }
}
