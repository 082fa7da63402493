// The identity provider of the lab: OpenID Connect for three people, on the hub host.
//
//   node issuer.mjs '{"issuer": "http://…", "port": 9090, "redirectUris": ["https://…"], "groups": {"ada": ["developers"]}}'
//
// Everything is kept in memory: a restart is a new provider with the same name, as after a key rotation.
// A person signs in on the page /login/<id>; a program by POSTing `user=ada` there, or by the header X-Test-User.
import * as http from 'node:http';
import Provider from 'oidc-provider';

const settings = JSON.parse(process.argv[2]);
const { issuer, port, redirectUris, backchannelLogoutUri, postLogoutRedirectUris = [] } = settings;
const groups = { ada: ['developers'], grace: ['viewers'], olga: ['owners'], ...settings.groups };
const scope = 'openid offline_access email profile groups';

const claimsOf = (name) => ({
  sub: name,
  name: name[0].toUpperCase() + name.slice(1),
  preferred_username: name,
  email: `${name}@example.test`,
  email_verified: true,
  groups: groups[name],
});

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: 'fairlead',
      client_secret: 'lab-secret',
      redirect_uris: redirectUris,
      post_logout_redirect_uris: postLogoutRedirectUris,
      response_types: ['code'],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      ...(backchannelLogoutUri && {
        backchannel_logout_uri: backchannelLogoutUri,
        backchannel_logout_session_required: true,
      }),
    },
  ],
  scopes: scope.split(' '),
  claims: {
    openid: ['sub'],
    email: ['email', 'email_verified'],
    profile: ['name', 'preferred_username'],
    groups: ['groups'],
  },
  // Companies' providers put groups into the ID token too; the default keeps them to userinfo.
  conformIdTokenClaims: false,
  findAccount: (_, name) => Object.hasOwn(groups, name) && { accountId: name, claims: () => claimsOf(name) },
  issueRefreshToken: (_, client, code) => client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
  // No consent page: whoever signs in consents to what the client asks for.
  loadExistingGrant: async ({ oidc }) => {
    const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
    grant.addOIDCScope(scope);
    await grant.save();
    return grant;
  },
  features: {
    devInteractions: { enabled: false },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
  },
  // Its own dispatcher refuses private addresses, and the hub of the lab has one.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  interactions: { url: (_, interaction) => `/login/${interaction.uid}` },
  cookies: { keys: ['a key of the lab'] },
  ttl: { IdToken: 600, AccessToken: 600, Interaction: 600, Session: 3600, Grant: 3600 },
});

// Failures to reach the hub are told nowhere else.
provider.on('backchannel.error', (_, error, client) => {
  console.error('back-channel logout', client.clientId, error.message, error.cause ?? '');
});
provider.on('server_error', (_, error) => console.error(error));

const page = () => `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Sign in</title>
<body style="font: 16px/1.5 system-ui; max-width: 22rem; margin: 15vh auto">
<h1 style="font-size: 1.3rem">Who are you?</h1>
<p>The identity provider of the lab asks for no password.</p>
<form method="post">${Object.keys(groups)
  .map((name) => `<p><button name="user" value="${name}" style="font: inherit; padding: .4rem 1rem">${name}</button> ${groups[name].join(', ')}</p>`)
  .join('')}
</form></body></html>`;

async function bodyOf(request) {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) {
    text += chunk;
    if (text.length > 4096) throw new Error('the form is too long');
  }
  return new URLSearchParams(text);
}

async function signIn(request, response) {
  const named = request.headers['x-test-user'];
  if (request.method === 'GET' && !named) {
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(page());
    return;
  }
  const user = named ?? (await bodyOf(request)).get('user');
  if (!Object.hasOwn(groups, user)) {
    response.writeHead(401).end(`nobody is called ${user}: ${Object.keys(groups).join(', ')}`);
    return;
  }
  // Without the consent, `prompt=consent` (which offline_access needs) would ask for ever.
  const result = { login: { accountId: user }, consent: {} };
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
}

const callback = provider.callback();
http
  .createServer((request, response) => {
    if (!request.url.startsWith('/login/')) return callback(request, response);
    return signIn(request, response).catch((error) => response.writeHead(500).end(String(error)));
  })
  .listen(port, '0.0.0.0');
