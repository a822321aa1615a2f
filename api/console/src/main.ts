/* Starts the console: stores, routes, texts, component library. */
import "element-plus/dist/index.css";
import "element-plus/theme-chalk/dark/css-vars.css";
import "./styles/theme.css";
import { createPinia } from "pinia";
import { createApp } from "vue";
import App from "./App.vue";
import { currentLang, i18n, setLang } from "./i18n";
import { makeRouter } from "./router";

const app = createApp(App);
app.use(createPinia());
app.use(i18n);
setLang(currentLang());
app.use(makeRouter());
app.mount("#app");
