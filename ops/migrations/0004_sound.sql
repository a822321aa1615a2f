-- Sound is a right of its own (F-33): nobody has it unless an administrator gave it to him.

ALTER TABLE users ADD COLUMN may_listen boolean NOT NULL DEFAULT false;
