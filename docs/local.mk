# docs/ - the man page and completions are made from the option tables
EXTRA_DIST += %D%/bise.1.in
man_MANS = docs/bise.1
CLEANFILES += docs/bise.1 docs/bise.bash docs/_bise docs/bise.fish
docs/bise.1: $(srcdir)/docs/bise.1.in cli/docgen$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) docs && cli/docgen$(EXEEXT) man $(srcdir)/docs/bise.1.in >$@.tmp && mv $@.tmp $@
bashcompdir = $(datadir)/bash-completion/completions
bashcomp_DATA = docs/bise.bash
docs/bise.bash: cli/docgen$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) docs && cli/docgen$(EXEEXT) bash >$@.tmp && mv $@.tmp $@
zshcompdir = $(datadir)/zsh/site-functions
zshcomp_DATA = docs/_bise
docs/_bise: cli/docgen$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) docs && cli/docgen$(EXEEXT) zsh >$@.tmp && mv $@.tmp $@
fishcompdir = $(datadir)/fish/vendor_completions.d
fishcomp_DATA = docs/bise.fish
docs/bise.fish: cli/docgen$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) docs && cli/docgen$(EXEEXT) fish >$@.tmp && mv $@.tmp $@
# bash completes by the name of the command
install-data-hook:
	cd $(DESTDIR)$(bashcompdir) && mv -f bise.bash bise
uninstall-hook:
	rm -f $(DESTDIR)$(bashcompdir)/bise
TESTS += tests/cli/docs.sh
EXTRA_DIST += tests/cli/docs.sh
