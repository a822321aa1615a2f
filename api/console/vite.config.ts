/* Build and development server: the API and media are proxied to a local platform (or to the mock, `npm run mock`). */
import { fileURLToPath, URL } from "node:url";
import vue from "@vitejs/plugin-vue";
import { defineConfig } from "vite";

const backend = process.env.MINGJIAN_API ?? "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [vue()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  define: { __VUE_OPTIONS_API__: true, __VUE_I18N_LEGACY_API__: false, __INTLIFY_PROD_DEVTOOLS__: false },
  server: { proxy: { "/api": backend, "/live": { target: backend, ws: true } } },
  build: {
    target: "es2022",
    // Command-centre browsers are kept for years; a separate vendor chunk stays cached over console updates.
    rollupOptions: {
      output: {
        manualChunks: (id) => {
          if (!id.includes("node_modules")) return undefined;
          return /element-plus|@element-plus|@vueuse|lodash|@floating-ui|async-validator|dayjs/.test(id)
            ? "elements"
            : "vendor";
        },
      },
    },
    chunkSizeWarningLimit: 900,
  },
});
