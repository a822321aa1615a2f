/* `npm run mock`: the mock platform on port 8080 for work on the console. Accounts: <name> / <name>-password-1. */
import { MockPlatform } from "./server.mjs";

const mock = await new MockPlatform().start(Number(process.env.PORT ?? 8080), Number(process.env.MEDIA_PORT ?? 8081));
console.log(
  `mock platform at ${mock.origin} – zhiban1 (watcher), admin (administrator), shenji (auditor); password <name>-password-1`,
);
